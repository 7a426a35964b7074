"""Draws the final runs of a confirmed search."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from analysis.plots.style import arm_styles


def plot_final_runs(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Each run's accuracy, and the intervals of the mean, one line per configuration.

    Args:
        rows: ``arm``, ``accuracy`` (fractions), ``mean``, ``seeds_low``, ``seeds_high``,
            ``both_low`` and ``both_high``.
        ax: Where to draw.
    """
    styles = arm_styles(rows["arm"])
    for place, (name, style) in enumerate(styles.items()):
        own, color = rows[rows["arm"] == name], style["color"]
        first = own.iloc[0]
        ax.hlines(place + 0.22, first["both_low"], first["both_high"], color=color, lw=1.5)
        ax.hlines(place + 0.22, first["seeds_low"], first["seeds_high"], color=color, lw=5)
        ax.plot(first["mean"], place + 0.22, marker="|", ms=14, color="black")
        ax.plot(own["accuracy"], [place] * len(own), ls="", alpha=0.6, **style)
    ax.set_yticks(range(len(styles)), list(styles))
    ax.set_ylim(len(styles) - 0.4, -0.5)
    ax.set_xlabel("accuracy on the test images")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda a, _: f"{100 * a:.2f}%"))
    ax.grid(visible=False, axis="y")
    return ax
