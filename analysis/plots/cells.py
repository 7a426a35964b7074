"""Draws the error over two hyperparameters: cells of their buckets, and the trials on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.mattered_frames import Distribution, bucket_names, choices, place, place_ticks
from analysis.plots.style import LEAST_ERROR, LOST_COLOUR, STATUS_MARKERS
from analysis.plots.trials import ERROR_COLOURS, beside_one_another, error_bar, error_norm
from study.config.hyperparameters import HYPERPARAMETERS


def plot_cells(
    frame: pd.DataFrame, trials: pd.DataFrame, space: Mapping[str, Distribution], *, ax: Axes
) -> Axes:
    """The error in each cell of two hyperparameters, with the trials as marks.

    In each cell stands how many complete trials it has, of how many tried. A cell without a
    complete trial is hatched. The shape of a mark is how the trial ended.

    Args:
        frame: From `analysis.mattered_frames.cells`.
        trials: From `analysis.search_frames.trial_map`.
        space: The two hyperparameters, that of the x axis first, and what each was drawn from.
        ax: Where to draw.
    """
    norm = error_norm(trials["error"][np.isfinite(trials["error"])])
    colour_of = mpl.colormaps[ERROR_COLOURS]
    wide, high = (1 / len(bucket_names(each)) for each in space.values())
    for cell in frame.to_dict("records"):
        corner = cell["x"] * wide, cell["y"] * high
        colour = colour_of(norm(max(cell["error"], LEAST_ERROR)))
        box = Rectangle(corner, wide, high, facecolor=colour, edgecolor="white", lw=1, alpha=0.6)
        box.set_hatch("" if cell["complete"] else "//")
        ax.add_patch(box)
        ax.annotate(
            f"{cell['complete']} of {cell['tried']}",
            (corner[0], corner[1] + high),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize="x-small",
            color="black",
            bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1},
        )
    x, y = (_spread(trials[name], each) for name, each in space.items())
    errors = trials["error"].where(np.isfinite).clip(lower=LEAST_ERROR)
    for index in trials.index:
        known = pd.notna(errors[index])
        marker = STATUS_MARKERS[trials["status"][index]]
        look: dict[str, Any] = {"marker": marker, "ms": 6, "mew": 0.8, "markeredgecolor": "white"}
        look |= {"color": colour_of(norm(errors[index])) if known else LOST_COLOUR}
        if marker == "x":  # all of it is edge
            look |= {"markeredgecolor": look["color"], "mew": 1.5}
        ax.plot(x[index], y[index], ls="", zorder=3, **look)
    for axis, each in zip((ax.xaxis, ax.yaxis), space.values(), strict=True):
        axis.set_ticks(*place_ticks(each))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.grid(visible=False)
    x_label, y_label = (HYPERPARAMETERS[name].label for name in space)
    ax.set(xlabel=x_label, ylabel=y_label)
    error_bar(ax, norm)
    return ax


def _spread(values: pd.Series, distribution: Distribution) -> pd.Series:
    """The place of each trial; those with the same choice beside one another."""
    places, known = place(values, distribution), choices(distribution)
    return places if known is None else beside_one_another(places, 0.7 / len(known))
