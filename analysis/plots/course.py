"""Draws the course of a search: which trials went on, and when the best one was found."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.plots.style import GREY, LEAST_ERROR, arm_styles, whole_numbers
from analysis.plots.trials import draw_trials, error_axis, trial_legend


def plot_survival(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """How many trials reached each rung: one stacked bar per rung, coloured by batch size.

    Args:
        frame: From `analysis.course_frames.survival`.
        ax: Where to draw.
    """
    counts = frame.pivot(index="epoch", columns="batch_size", values="reached")
    base = pd.Series(0, counts.index)
    places = range(len(counts))
    for size, style in arm_styles(counts.columns).items():
        ax.bar(places, counts[size], bottom=base, color=style["color"], width=0.6, label=size)
        base += counts[size]
    pruned = frame.groupby("epoch")["pruned"].sum()
    for place, epoch in enumerate(counts.index):
        more = f"\n{pruned[epoch]} pruned" if pruned[epoch] else ""
        ax.text(place, base[epoch], f"{base[epoch]}{more}", ha="center", va="bottom")
    ax.set_xticks(places, [f"epoch {epoch}" for epoch in counts.index])
    ax.set_ylim(0, 1.25 * max(1, base.max()))
    ax.set_ylabel("trials that reached it")
    ax.grid(visible=False, axis="x")
    ax.legend(title="batch size", frameon=False, loc="upper right")
    return ax


def plot_best_so_far(frame: pd.DataFrame, figure: Figure) -> None:
    """Every trial in the order proposed, and the best complete one so far as a line.

    Args:
        frame: From `analysis.course_frames.best_so_far`.
        figure: Where to draw.
    """
    axes = figure.subplots(1, 2, sharey=True)
    labels = {"number": "trials proposed", "seconds": "seconds of training, all trials together"}
    for ax, (x, label) in zip(axes, labels.items(), strict=True):
        ax.step(frame[x], frame["best"].clip(lower=LEAST_ERROR), where="post", color=GREY, zorder=0)
        draw_trials(ax, frame.assign(x=frame[x]))
        ax.set_xlabel(label)
    whole_numbers(axes[0])
    error_axis(axes[0], frame["error"])
    trial_legend(figure, frame)


def plot_timeline(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """When each trial ran: a bar per stretch, a row per slot, coloured by batch size.

    Bars of trials that are not complete are hollow.

    Args:
        frame: From `analysis.course_frames.timeline`.
        ax: Where to draw.
    """
    unit, per_hour = ("hours", 1) if frame["end"].max() >= 2 else ("minutes", 60)
    start, length = frame["start"] * per_hour, (frame["end"] - frame["start"]) * per_hour
    styles = arm_styles(frame["batch_size"])
    for size, style in styles.items():
        for is_complete in (True, False):
            own = (frame["batch_size"] == size) & (frame["status"].eq("complete") == is_complete)
            # The white edge parts a bar from the next one of its colour.
            fill, edge = (style["color"], "white") if is_complete else ("none", style["color"])
            rows, width, left = frame.loc[own, "slot"], length[own], start[own]
            ax.barh(rows, width, 0.7, left, color=fill, edgecolor=edge, lw=1)
    handles = [Patch(color=style["color"], label=f"batch {size}") for size, style in styles.items()]
    hollow = Patch(facecolor="none", edgecolor="0.45", label="not complete")
    if not frame["status"].eq("complete").all():
        handles.append(hollow)
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=4)
    slots = frame.drop_duplicates("slot").sort_values("slot")
    several = slots["node"].nunique() > 1
    nodes = slots["node"] + ", " if several else ""
    ax.set_yticks(slots["slot"], nodes + "slot " + (slots["slot"] + 1).astype(str))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(f"{unit} of the search")
    return ax
