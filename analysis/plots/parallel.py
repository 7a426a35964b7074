"""Draws trials as lines over parallel axes: one for each hyperparameter, and one for the error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.mattered_frames import Distribution, place, place_ticks
from analysis.plots.style import ERROR_TICKS, LEAST_ERROR, LOST_COLOUR, RAMP, percent
from study.config.hyperparameters import HYPERPARAMETERS

BEST = 3  # drawn thick, on top
NOWHERE = -0.12  # the place of a hyperparameter that the trial does not have


def plot_parallel(frame: pd.DataFrame, space: Mapping[str, Distribution], figure: Figure) -> None:
    """One line per trial over its hyperparameters and its last validation error.

    The colour is the rank of the error. Trials that are not complete are dashed and faint. The
    best ones are thick and on top.

    Args:
        frame: From `analysis.search_frames.trial_map`.
        space: The hyperparameters to show, and what each was drawn from.
        figure: Where to draw.
    """
    ax = figure.subplots()
    rows = frame.sort_values("error", ascending=False, na_position="first")
    heights = pd.DataFrame({name: place(rows[name], each) for name, each in space.items()})
    heights, errors = heights.fillna(NOWHERE), rows["error"].where(np.isfinite)
    ends = _ends(errors)
    heights["error"] = _error_place(errors, ends).fillna(1.0)
    complete = rows["status"] == "complete"
    best = rows.index[complete & errors.notna()][-BEST:]
    ramp, ranks = sns.blend_palette(RAMP, as_cmap=True), errors.rank(pct=True)
    for index in rows.index:
        look: dict[str, Any] = {"color": LOST_COLOUR, "lw": 1.2}
        if pd.notna(ranks[index]):
            look["color"] = ramp(float(ranks[index]))
        look |= {"alpha": 0.75} if complete[index] else {"alpha": 0.4, "ls": (0, (4, 3))}
        if index in best:
            look |= {"lw": 3, "alpha": 1, "zorder": 3}
        ax.plot(range(heights.shape[1]), heights.loc[index], **look)
    for x, (name, each) in enumerate(space.items()):
        at, labels = place_ticks(each)
        if (heights[name] == NOWHERE).any():
            at, labels = [NOWHERE, *at], ["none", *labels]
        _axis(ax, x, at, labels)
    shown = [e for e in ERROR_TICKS if ends[0] <= e <= ends[1]]
    _axis(ax, len(space), _error_place(pd.Series(shown), ends), [percent(e) for e in shown])
    names = [HYPERPARAMETERS[name].label for name in space]
    ax.set_xticks(range(heights.shape[1]), [*names, "last validation error"])
    ax.set_xlim(-0.4, len(space) + 0.35)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines["left"].set_color("none")
    figure.legend(handles=_handles(), loc="outside upper center", frameon=False, ncols=5)


def _ends(errors: pd.Series) -> tuple[float, float]:
    known = errors.dropna().clip(lower=LEAST_ERROR)
    return (known.min() / 1.1, known.max() * 1.1) if len(known) else (LEAST_ERROR, 1.0)


def _error_place(errors: pd.Series, ends: tuple[float, float]) -> pd.Series:
    low, high = np.log(ends)
    return (np.log(errors.clip(lower=LEAST_ERROR)) - low) / (high - low)


def _axis(ax: Axes, x: int, at: list[float] | pd.Series, labels: list[str]) -> None:
    """A vertical axis at `x`."""
    ax.axvline(x, color="0.5", lw=1, zorder=0)
    for y, label in zip(at, labels, strict=True):
        ax.plot([x - 0.02, x], [y, y], color="0.5", lw=1, zorder=0)
        ax.annotate(label, (x, y), (-5, 0), textcoords="offset points", ha="right", va="center")


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], lw=3, color=RAMP[0], label=f"best {BEST}"),
        *(
            Line2D([], [], lw=1.5, color=colour, label=f"{which} error")
            for colour, which in zip(RAMP, ("low", "middle", "high"), strict=True)
        ),
        Line2D([], [], lw=1.5, color="0.45", ls="--", label="not complete"),
    ]
