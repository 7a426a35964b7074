"""Draws single trials as marks, with the axis, the legend or the colours that they need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.style import (
    ERROR_TICKS,
    LEAST_ERROR,
    LOST_COLOUR,
    STATUS_MARKERS,
    arm_styles,
    log_ticks,
    percent,
)

ERROR_COLOURS = "viridis_r"


def draw_trials(ax: Axes, rows: pd.DataFrame, sizes: pd.Series | None = None) -> None:
    """One mark per trial at its ``x`` and ``error``; at the upper edge if it has no error.

    The colour is the batch size, the shape is how the trial ended. Only complete trials are
    filled. `sizes` are all batch sizes of the figure, if `rows` are a part of its trials.
    """
    styles = arm_styles(rows["batch_size"] if sizes is None else sizes)
    for status, marker in STATUS_MARKERS.items():
        for size, own in rows[rows["status"] == status].groupby("batch_size"):
            colour = styles[size]["color"]  # pyright: ignore[reportArgumentType] -- a group key
            look = _look(status, colour, marker)
            known = own[np.isfinite(own["error"])]
            ax.plot(known["x"], known["error"].clip(lower=LEAST_ERROR), **look)
            if len(lost := own.drop(known.index)["x"]):
                look |= {"color": LOST_COLOUR, "transform": ax.get_xaxis_transform()}
                ax.plot(lost, [1.0] * len(lost), clip_on=False, **look)


def trial_legend(figure: Figure, frame: pd.DataFrame) -> None:
    """What the colours and shapes of `draw_trials` stand for, above the axes."""
    present = set(frame["status"])
    handles = [
        Line2D([], [], **_look(status, "0.45", marker), label=status)
        for status, marker in STATUS_MARKERS.items()
        if status in present
    ]
    if not np.isfinite(frame["error"]).all():
        label = "no finite result"
        handles.append(Line2D([], [], ls="", marker="s", color=LOST_COLOUR, label=label))
    handles += [
        Line2D([], [], lw=4, color=style["color"], label=f"batch {size}")
        for size, style in arm_styles(frame["batch_size"]).items()
    ]
    columns = -(-len(handles) // 2) if len(handles) > 5 else max(1, len(handles))
    figure.legend(handles=handles, loc="outside upper center", frameon=False, ncols=columns)


def error_axis(ax: Axes, errors: pd.Series) -> None:
    """A logarithmic axis of errors, in percent."""
    ax.set_ylabel("last validation error")
    known = errors[np.isfinite(errors)].clip(lower=LEAST_ERROR)
    if len(known):
        # Matplotlib finds no limits of its own if all are equal.
        ax.set_ylim(known.min() / 1.3, known.max() * 1.3)
        ax.set_yscale("log")
        log_ticks(ax, percent)
    else:
        ax.set_yticks([])


def beside_one_another(places: pd.Series, width: float) -> pd.Series:
    """`places`, with those that are equal spread over `width`."""
    order, size = places.groupby(places).cumcount(), places.map(places.value_counts())
    return places + width * ((order + 0.5) / size - 0.5)


def error_norm(errors: pd.Series) -> LogNorm:
    """The scale of `ERROR_COLOURS`. It ends at the 90th percentile: what is bad is merely bad."""
    shown = errors.clip(lower=LEAST_ERROR)
    return LogNorm(float(shown.min()) * 0.999, float(shown.quantile(0.9)) * 1.001)


def error_bar(ax: Axes, norm: LogNorm) -> None:
    """A bar beside the axes that says which colour an error has."""
    assert ax.figure is not None
    bar = ax.figure.colorbar(
        ScalarMappable(norm, ERROR_COLOURS), ax=ax, extend="max", label="last validation error"
    )
    low, high = norm.vmin or 0, norm.vmax or 1
    ticks = [e for e in ERROR_TICKS if low <= e <= high]
    bar.set_ticks(ticks, labels=[percent(e) for e in ticks])
    bar.minorticks_off()


def _look(status: str, colour: Any, marker: str) -> dict[str, Any]:
    filled = {} if status == "complete" else {"markerfacecolor": "none"}
    return {"ls": "", "marker": marker, "ms": 6, "alpha": 0.85, "color": colour, **filled}
