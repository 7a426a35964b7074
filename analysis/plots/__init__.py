"""Draws the figures: each ``plot_*(frame, ax=...)`` draws a frame that was computed elsewhere."""
