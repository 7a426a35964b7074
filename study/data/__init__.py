"""The images: where they come from, how they are split, the sealed test set."""
