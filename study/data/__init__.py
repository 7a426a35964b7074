"""The images: sources, splits and the sealed test set."""
