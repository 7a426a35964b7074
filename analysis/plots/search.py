"""Draws the figures of a search: the map of its trials, accuracy and loss curves."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from analysis.plots.style import (
    GREY,
    LEAST_ERROR,
    LOST_COLOUR,
    RAMP,
    STATUS_MARKERS,
    arm_styles,
    percent,
    plain,
    whole_numbers,
)
from analysis.plots.trials import ERROR_COLOURS, error_bar, error_norm

ACCURACY_TICKS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1 - 1e-4)
EXPECTED_TICKS = (*ACCURACY_TICKS, 0.97, 0.985, 0.992)
SMALLEST = 1e-5  # an error of zero is drawn here
NO_DATA = "no trial has a value yet"


def plot_loss_by_step(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """Training loss by optimizer step: one line per trial, the spread of its losses as a band.

    Args:
        frame: From `analysis.search_frames.loss_by_step`.
        ax: Where to draw.
    """
    frame = frame[np.isfinite(frame["loss"])]
    styles = arm_styles(frame["batch_size"])
    for (batch_size, _), curve in frame.groupby(["batch_size", "trial_id"]):
        style = styles[batch_size]  # pyright: ignore[reportArgumentType] -- a group key
        ax.fill_between(
            curve["step"], curve["low"], curve["high"], color=style["color"], alpha=0.15, lw=0
        )
        ax.plot(curve["step"], curve["loss"], label=batch_size, markevery=6, ms=5, **style)
    ax.set(xlabel="step (optimizer updates)", ylabel="training loss (nats per example)")
    _finish(ax, frame, log="xy", legend="batch size")
    return ax


def plot_loss_by_epoch(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """Loss after each epoch: validation as solid lines, training as dashed ones.

    Args:
        frame: From `analysis.search_frames.loss_by_epoch`.
        ax: Where to draw.
    """
    frame = frame[np.isfinite(frame["loss"])]
    styles = arm_styles(frame["batch_size"])
    for (batch_size, _, split), curve in frame.groupby(["batch_size", "trial_id", "split"]):
        style = styles[batch_size]  # pyright: ignore[reportArgumentType] -- a group key
        solid = split == "validation"
        ax.plot(
            curve["epoch"],
            curve["loss"],
            ls="-" if solid else "--",
            lw=1.8 if solid else 1.2,
            ms=5 if solid else 0,
            label=batch_size if solid else None,
            **style,
        )
    ax.set(xlabel="epoch", ylabel="loss (nats per example)")
    _finish(ax, frame, log="y", legend="batch size")
    lines = [
        Line2D([], [], color="0.3", ls=ls, label=name)
        for ls, name in (("-", "validation"), ("--", "training"))
    ]
    if (legend := ax.get_legend()) is not None:
        ax.add_artist(legend)
        ax.legend(handles=lines, loc="upper center", frameon=False)
    whole_numbers(ax)
    return ax


def plot_accuracy_by_epoch(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """Validation accuracy after each epoch: all trials in grey, each batch size's best in colour.

    The axis is logarithmic in the error. Bars at the end are the best trials' intervals.

    Args:
        frame: From `analysis.search_frames.accuracy_by_epoch`.
        ax: Where to draw.
    """
    frame = frame[np.isfinite(frame["accuracy"])]
    ax.set_yscale(
        "function",
        functions=(
            lambda a: -np.log10(np.maximum(1 - np.asarray(a, float), SMALLEST)),
            lambda y: 1 - 10.0 ** -np.asarray(y, float),
        ),
    )
    styles = arm_styles(frame["batch_size"])
    for _, curve in frame[~frame["best"]].groupby("trial_id"):
        ax.plot(curve["epoch"], curve["accuracy"], color=GREY, lw=0.8, marker=".", ms=3, alpha=0.7)
    best = frame[frame["best"]].groupby(["batch_size", "trial_id"])
    for place, ((batch_size, _), curve) in enumerate(best):
        style = styles[batch_size]  # pyright: ignore[reportArgumentType] -- a group key
        ax.plot(curve["epoch"], curve["accuracy"], label=batch_size, ms=5, **style)
        last = curve.iloc[-1]
        # Side by side, or they would hide one another.
        at = last["epoch"] + 0.12 * (place + 1)
        ax.plot([at, at], [last["low"], last["high"]], color=style["color"], lw=2)
    ax.set(xlabel="epoch", ylabel="validation accuracy")
    if len(frame):
        ax.set_ylim(frame["accuracy"].min() - 0.01, min(frame["high"].max() + 5e-4, 1))
    ax.yaxis.set_major_locator(FixedLocator(ACCURACY_TICKS))
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    ax.yaxis.set_minor_locator(NullLocator())
    _finish(ax, frame, legend="best trial at\nbatch size", loc="lower right")
    whole_numbers(ax)
    return ax


def plot_trial_map(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """All trials: learning rate against batch size, coloured by the last validation error.

    Within a batch size each width has a lane, the narrowest the lowest. The symbol grows with
    the width. Its shape shows how the trial ended. The best trial is ringed.

    Args:
        frame: From `analysis.search_frames.trial_map`.
        ax: Where to draw.
    """
    sizes = sorted(frame["batch_size"].unique())
    widths = sorted(frame["width_mult"].unique())
    lane = {width: (i - (len(widths) - 1) / 2) * 0.24 for i, width in enumerate(widths)}
    area = dict(zip(widths, np.linspace(40, 130, len(widths)), strict=True))
    rows = frame.assign(
        y=[
            sizes.index(b) + lane[w]
            for b, w in zip(frame["batch_size"], frame["width_mult"], strict=True)
        ],
        area=frame["width_mult"].map(area),
    )
    known = rows[np.isfinite(rows["error"])]
    shown = known["error"].clip(lower=LEAST_ERROR)
    norm = error_norm(shown) if len(known) else None
    for status, marker in STATUS_MARKERS.items():
        group = known[known["status"] == status]
        points = ax.scatter(
            group["lr"],
            group["y"],
            c=shown[group.index],
            s=group["area"],
            marker=marker,
            cmap=ERROR_COLOURS,
            norm=norm,
            zorder=3,
        )
        if len(group) and status in ("complete", "pruned", "interrupted"):
            points.set_edgecolor("0.5")
            points.set_linewidth(0.6)
        bare = rows[(rows["status"] == status) & ~np.isfinite(rows["error"])]
        ax.scatter(
            bare["lr"], bare["y"], color=LOST_COLOUR, s=bare["area"], marker=marker, zorder=3
        )
    best = rows[rows["best"]]
    ax.scatter(
        best["lr"],
        best["y"],
        s=best["area"] * 3.2,
        facecolor="none",
        edgecolor="crimson",
        lw=2,
        zorder=4,
    )
    for edge in range(1, len(sizes)):
        ax.axhline(edge - 0.5, color=mpl.rcParams["grid.color"], lw=0.8)
    ax.grid(visible=False, axis="y")
    ax.set(xscale="log", xlabel="learning rate of the first epoch", ylabel="batch size")
    ax.set_yticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_ylim(-0.5, len(sizes) - 0.5)
    ax.xaxis.set_major_formatter(FuncFormatter(plain))
    if norm is not None:
        error_bar(ax, norm)
    _map_legend(ax, rows, area)
    return ax


def plot_likely_best(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """Each trial's accuracy as measured (open) and as expected (filled), the likely best on top.

    The axis is logarithmic in the error.

    Args:
        frame: From `analysis.search_frames.shrunk`.
        ax: Where to draw.
    """
    rows = frame.iloc[::-1].reset_index(drop=True)
    colour = {True: GREY, False: RAMP[1]}
    for told_apart, group in rows.groupby("told_apart"):
        ends = [group["expected"] + sign * 2 * group["sd"] for sign in (1, -1)]
        low, high = (np.clip(1 - end, SMALLEST, 1) for end in ends)
        style: dict[str, Any] = {"color": colour[bool(told_apart)], "zorder": 3}
        ax.hlines(group.index, low, high, lw=2.5, alpha=0.6, **style)
        ax.plot(np.maximum(1 - group["expected"], SMALLEST), group.index, "o", ms=7, **style)
        measured = np.maximum(1 - group["accuracy"], SMALLEST)
        ax.plot(measured, group.index, "o", ms=7, markerfacecolor="none", **style)
    ax.set_xscale("log")
    ax.invert_xaxis()
    right, left = sorted(ax.get_xlim())
    ax.set_xticks([1 - a for a in EXPECTED_TICKS if right <= 1 - a <= left])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda error, _: percent(1 - error)))
    ax.xaxis.set_minor_locator(NullLocator())
    whose = np.where(rows["paper"], "the paper's, ", "")
    labels = [
        f"{who}{trial} ({p:.2f})"
        for who, trial, p in zip(whose, rows["trial_id"], rows["p_best"], strict=True)
    ]
    ax.set_yticks(rows.index, labels, parse_math=False)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("validation accuracy")
    return ax


def _map_legend(ax: Axes, rows: pd.DataFrame, area: dict[float, float]) -> None:
    def symbol(label: str, marker: str, size: float, **style: Any) -> Line2D:
        return Line2D(
            [], [], ls="", marker=marker, ms=size**0.5, label=label, **{"color": "0.45", **style}
        )

    present = set(rows["status"])
    handles = [symbol(s, m, 60) for s, m in STATUS_MARKERS.items() if s in present]
    if len(area) > 1:
        handles += [symbol(f"width x{width:g}", "o", size) for width, size in area.items()]
    if rows["best"].any():
        handles.append(symbol("best", "o", 130, markerfacecolor="none", color="crimson"))
    ax.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        ncols=min(4, max(1, len(handles))),
        fontsize="small",
    )


def _finish(
    ax: Axes, frame: pd.DataFrame, *, legend: str, log: str = "", loc: Any = "best"
) -> None:
    if frame.empty:
        ax.text(0.5, 0.5, NO_DATA, transform=ax.transAxes, ha="center")
        return
    if "x" in log:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if "y" in log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.legend(title=legend, frameon=False, loc=loc)
