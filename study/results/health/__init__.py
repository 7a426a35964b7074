"""Health checks of a search, one file each: what its results do not show, and what to do."""
