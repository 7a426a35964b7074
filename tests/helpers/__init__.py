"""What several test files use: studies, Ray clusters, failing disks, comparisons of results."""
