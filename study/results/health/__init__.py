"""Health checks of a search, one per file: what its results do not show, and what to do."""
