"""Draws frames that were computed elsewhere: ``plot_*(frame, ax=...)``."""
