"""Helpers shared by test files: studies, Ray clusters, failing disks, made-up results."""
