"""Draws what was computed elsewhere: ``plot_*(frame, ax=...)``."""
