"""What several test files use: studies, Ray clusters, failing disks, comparisons of results."""

import os

# THOROUGH=1 tries every death, damage and kill; a run in .ci/run tries a part of them.
THOROUGH = bool(os.environ.get("THOROUGH"))
