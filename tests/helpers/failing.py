"""``study.run`` whose trials fail with the text in ``$FAIL_WITH``."""

from __future__ import annotations

import os
import sys
from typing import Any

from study import run
from study.search import session
from study.search.trainable import TrialTrainable


class Failing(TrialTrainable):
    """Fails in its first epoch."""

    def step(self) -> dict[str, Any]:
        """Fail."""
        raise RuntimeError(os.environ["FAIL_WITH"])


if __name__ == "__main__":
    session.TrialTrainable = Failing
    sys.exit(run.main())
