"""Draws how good the best of k trials of a random search is."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import LEAST_ERROR, RAMP, log_ticks, percent, whole_numbers


def plot_tuning_curve(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """The median error of the best of k trials against k, with its band.

    Args:
        frame: From `analysis.tuning_curve.tuning_curve`.
        ax: Where to draw.
    """
    rows = frame.clip(lower=LEAST_ERROR)
    # The band's lower end is zero as long as the trials do not bound it.
    bounded = rows["low"][rows["low"] > LEAST_ERROR]
    bottom = min([rows["median"].min(), *bounded]) / 1.3
    look = {"step": "post", "color": RAMP[1], "alpha": 0.25, "lw": 0, "label": "95% band"}
    ax.fill_between(rows["trials"], rows["low"], rows["high"], **look)
    ax.step(rows["trials"], rows["median"], where="post", color=RAMP[1], lw=2, label="median")
    ax.set_yscale("log")
    ax.set_ylim(bottom, rows["high"].max() * 1.3)
    log_ticks(ax, percent)
    whole_numbers(ax)
    ax.set(xlabel="trials", ylabel="validation error of the best")
    ax.legend(frameon=False)
    return ax
