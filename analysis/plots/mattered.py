"""Draws which hyperparameters mattered in a search: trials against their hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.mattered_frames import (
    GAMMA_PARTS,
    Distribution,
    bucket_names,
    bucket_of,
    choices,
    is_log,
)
from analysis.plots.style import (
    GREY,
    LEAST_ERROR,
    RAMP,
    percent,
    plain,
)
from analysis.plots.trials import beside_one_another, draw_trials, error_axis, trial_legend
from study.config.hyperparameters import HYPERPARAMETERS
from study.console.text import format_value

PANELS_A_ROW = 4


def grid(figure: Figure, count: int) -> list[Axes]:
    """`count` axes of one y scale, `PANELS_A_ROW` in a row."""
    columns = min(count, PANELS_A_ROW)
    rows = -(-count // PANELS_A_ROW)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.remove()
    return list(axes[:count])


def grid_size(count: int) -> tuple[float, float]:
    """The size in inches of a figure with `count` axes from `grid`."""
    return (1.2 + 2.7 * min(count, PANELS_A_ROW), 1.2 + 3.1 * -(-count // PANELS_A_ROW))


def plot_by_hyperparameter(
    frame: pd.DataFrame, space: Mapping[str, Distribution], figure: Figure
) -> None:
    """Every trial's last validation error against each hyperparameter: one panel for each.

    Args:
        frame: From `analysis.search_frames.trial_map`.
        space: The hyperparameters to show, and what each was drawn from.
        figure: Where to draw.
    """
    axes = grid(figure, len(space))
    for ax, (name, distribution) in zip(axes, space.items(), strict=True):
        draw_trials(ax, frame.assign(x=_places(frame[name], distribution, spread=0.5)))
        _label(ax, name, distribution)
    error_axis(axes[0], frame["error"])
    trial_legend(figure, frame)


def plot_importance(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """The importance of each hyperparameter with its interval, the most important on top.

    Args:
        frame: From `analysis.importance.importance` and `analysis.fanova.fanova`, one below the
            other, with the ``method``. The order of the rows is that of the first.
        ax: Where to draw.
    """
    order = frame.drop_duplicates("hyperparameter")[::-1].reset_index(drop=True)
    row_of = dict(zip(order["hyperparameter"], order.index, strict=True))
    ax.axvline(0, color=GREY, lw=1)
    looks = [(0.12, "o", RAMP[1]), (-0.12, "D", RAMP[2])]
    for (method, own), (up, marker, colour) in zip(
        frame.groupby("method", sort=False), looks, strict=False
    ):
        y = own["hyperparameter"].map(row_of) + up
        ax.hlines(y, own["low"], own["high"], color=colour, lw=2.5)
        ax.plot(own["importance"], y, marker, color=colour, ms=7, label=method)
    names = [HYPERPARAMETERS[name].label for name in order["hyperparameter"]]
    labels = [f"{name}\nn = {n}" for name, n in zip(names, order["trials"], strict=True)]
    ax.set_yticks(order.index, labels)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("share of the variance that it explains alone")
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, ncols=2)
    return ax


def plot_isolation(frame: pd.DataFrame, space: Mapping[str, Distribution], figure: Figure) -> None:
    """The best trial in each bucket of each hyperparameter: a line as wide as the bucket.

    The number is how many trials were tried in it. A best trial that is not complete is dashed.

    Args:
        frame: From `analysis.mattered_frames.isolation`.
        space: The hyperparameters in it, and what each was drawn from.
        figure: Where to draw.
    """
    axes = grid(figure, len(space))
    for ax, (name, distribution) in zip(axes, space.items(), strict=True):
        _label(ax, name, distribution)
        own = frame[frame["hyperparameter"] == name]
        is_choice = choices(distribution) is not None
        middles = (
            np.sqrt(own["low"] * own["high"])
            if is_log(distribution)
            else (own["low"] + own["high"]) / 2
        )
        own = own.assign(
            low=own["bucket"] - 0.4 if is_choice else own["low"],
            high=own["bucket"] + 0.4 if is_choice else own["high"],
            middle=own["bucket"] if is_choice else middles,
            error=own["error"].clip(lower=LEAST_ERROR),
        )
        for row in own.itertuples():
            known, complete = np.isfinite(row.error), row.best_status == "complete"
            if known:
                colour, ls = (RAMP[1], "-") if complete else (GREY, "--")
                ax.plot([row.low, row.high], [row.error] * 2, lw=3, color=colour, ls=ls)
            ax.annotate(
                str(row.tried),
                (row.middle, row.error if known else 1.0),
                xycoords="data" if known else ax.get_xaxis_transform(),
                xytext=(0, 4 if known else -14),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
    error_axis(axes[0], frame["error"])
    lines = [
        Line2D([], [], lw=3, color=RAMP[1], label="best, complete"),
        Line2D([], [], lw=3, color=GREY, ls="--", label="best, stopped earlier"),
    ]
    figure.legend(handles=lines, loc="outside upper center", frameon=False, ncols=2)


def plot_lr_by_batch_size(
    frame: pd.DataFrame, space: Mapping[str, Distribution], figure: Figure
) -> None:
    """Error against learning rate: a column per part of gamma's range, a row per width.

    Args:
        frame: From `analysis.mattered_frames.by_gamma_and_width`.
        space: What was varied.
        figure: Where to draw.
    """
    rows, columns = facets(space)
    axes = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        own = frame[(frame["width_part"] == row) & (frame["gamma_part"] == column)]
        draw_trials(ax, own.assign(x=own["lr"]), frame["batch_size"])
        _label(ax, "lr", space["lr"])
        error_axis(ax, frame["error"])
        title = ", ".join(text for text in (columns[column], rows[row]) if text)
        ax.set_title(f"{title} ({len(own)})", fontsize="small")
    for ax in axes.flat:
        ax.label_outer()
    trial_legend(figure, frame)


def facets(space: Mapping[str, Distribution]) -> tuple[list[str], list[str]]:
    """What the rows and the columns of `plot_lr_by_batch_size` stand for."""
    widths, gammas = space.get("width_mult"), space.get("gamma")
    return (
        [f"width {name}" for name in bucket_names(widths)] if widths else [""],
        [f"gamma {name}" for name in bucket_names(gammas, GAMMA_PARTS)] if gammas else [""],
    )


def _places(values: pd.Series, distribution: Distribution, spread: float) -> pd.Series:
    """Where values are on the x axis: choices at 0, 1, …, each one's trials beside one another."""
    if choices(distribution) is None:
        return values.astype(float)
    codes = bucket_of(values, distribution).replace(-1, np.nan)
    return beside_one_another(codes, spread)


def _label(ax: Axes, name: str, distribution: Distribution) -> None:
    """The axis of a hyperparameter: its name, its scale, the space that was searched."""
    ax.set_xlabel(HYPERPARAMETERS[name].label)
    if (known := choices(distribution)) is not None:
        ax.set_xticks(range(len(known)), [format_value(value) for value in known])
        ax.set_xlim(-0.6, len(known) - 0.4)
        ax.tick_params(axis="x", labelrotation=45 if len(known) > 4 else 0)
        return
    low, high = distribution["attributes"]["low"], distribution["attributes"]["high"]
    if is_log(distribution):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(
            LogLocator(subs=(1, 3) if high < 200 * low else (1,), numticks=6)
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(low * (low / high) ** 0.05, high * (high / low) ** 0.05)
    else:
        ax.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
