"""Where a study runs: this machine or a Ray cluster."""
