"""Draws the figures that compare arms: accuracy, differences, time to a target, regularization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.plots.style import (
    ERROR_TICKS,
    GREY,
    MARKERS,
    arm_styles,
    beside,
    count,
    log_ticks,
    percent,
    plain_ticks,
    whole_numbers,
)


def plot_accuracy_by_arm(by_epoch: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy after each epoch on an axis that is logarithmic in the error.

    Thin lines: single replicates. Thick line: the mean, with its 95% t interval as a band.

    Args:
        by_epoch: From `analysis.comparison_frames.accuracy_by_epoch`.
        ax: Where to draw.
    """
    for arm, style in arm_styles(by_epoch["arm"]).items():
        own = by_epoch[by_epoch["arm"] == arm]
        for _, run in own.groupby("replicate"):
            ax.plot(run["epoch"], 1 - run["accuracy"], color=style["color"], lw=0.6, alpha=0.35)
        mean = own.drop_duplicates("epoch").sort_values("epoch")
        ax.fill_between(
            mean["epoch"], 1 - mean["high"], 1 - mean["low"], color=style["color"], alpha=0.25, lw=0
        )
        ax.plot(mean["epoch"], 1 - mean["mean"], lw=2, ms=5, label=arm, **style)
    ax.set(yscale="log", xlabel="epoch", ylabel="accuracy")
    ax.invert_yaxis()
    ax.set_yticks([e for e in ERROR_TICKS if ax.get_ylim()[1] <= e <= ax.get_ylim()[0]])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{100 * (1 - e):g}%"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    whole_numbers(ax)
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_differences(differences: pd.DataFrame, margin: float, *, ax: Axes) -> Axes:
    """Paired differences in accuracy, with the equivalence zone.

    Args:
        differences: From `analysis.comparison_frames.paired_differences`, each row with its
            ``comparison``.
        margin: Half the zone's width, in percentage points.
        ax: Where to draw.
    """
    rows = differences.iloc[::-1].reset_index(drop=True)
    ax.axvspan(-margin, margin, color=GREY, alpha=0.25, lw=0)
    ax.axvline(0, color=GREY, lw=1)
    colour = sns.color_palette("colorblind")[0]
    ax.hlines(rows.index, rows["low"], rows["high"], color=colour, lw=2.5)
    ax.plot(rows["difference"], rows.index, "o", color=colour, ms=7)
    labels = [f"{r.arm} minus {r.baseline}\n{r.comparison}, n = {r.n}" for r in rows.itertuples()]
    ax.set_yticks(rows.index, labels)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xscale("symlog", linthresh=max(margin, 0.2), linscale=1.2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set_xticks(_difference_ticks(rows))
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("difference in accuracy (percentage points)")
    return ax


def _difference_ticks(rows: pd.DataFrame) -> list[float]:
    """Ticks over the range of the rows, so far apart that no two labels touch."""
    shown = rows[["difference", "low", "high"]].to_numpy()
    left, right = min(np.nanmin(shown), -0.1), max(np.nanmax(shown), 0.1)
    steps = (0.1, 0.5, 2, 5, 20, 50)
    ticks = [-t for t in steps[::-1]] + [0.0] + list(steps)
    return [t for t in ticks if left <= t <= right]


def plot_to_target(reached: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Steps, images and seconds until an accuracy is reached, one dot per replicate.

    Args:
        reached: From `analysis.comparison_frames.to_target`.
        axes: Three axes.
    """
    styles = arm_styles(reached["arm"])
    names = list(styles)
    units = {"step": "steps", "examples": "images seen", "seconds": "seconds"}
    for ax, (x, unit) in zip(axes, units.items(), strict=True):
        for place, (arm, style) in enumerate(styles.items()):
            own = reached.loc[reached["arm"] == arm, x].dropna()
            jitter = np.linspace(-0.15, 0.15, len(own)) if len(own) > 1 else np.zeros(len(own))
            ax.plot(place + jitter, own, ls="", ms=5, alpha=0.7, **style)
            if len(own):
                ax.hlines(own.median(), place - 0.3, place + 0.3, color=style["color"], lw=2.5)
        ax.set(yscale="log", ylabel=unit)
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.6, len(names) - 0.4)
        log_ticks(ax, count)
        ax.grid(visible=False, axis="x")


def plot_learning_curve(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Error against the number of training images, with a power law through the means.

    Args:
        rows: ``train_examples``, ``replicate`` and ``error`` (a fraction).
        ax: Where to draw.
    """
    for n, style in arm_styles(rows["train_examples"]).items():
        own = rows[rows["train_examples"] == n]
        ax.plot(beside(n, len(own), 0.04), own["error"], ls="", ms=6, alpha=0.8, **style)
    fitted = rows[rows["error"] > 0].astype(float)
    if fitted["train_examples"].nunique() > 1:
        slope, offset = np.polyfit(np.log(fitted["train_examples"]), np.log(fitted["error"]), 1)
        x = np.geomspace(rows["train_examples"].min() / 1.2, rows["train_examples"].max() * 1.2, 50)
        ax.plot(
            x,
            np.exp(offset) * x**slope,
            ls="--",
            color=GREY,
            zorder=0,
            label=f"error ∝ images$^{{{slope:.2f}}}$",
        )
    ax.set(xscale="log", yscale="log", xlabel="training images", ylabel="error")
    plain_ticks(ax, sorted(rows["train_examples"].unique()))
    log_ticks(ax, percent, (1, 2, 3, 5))
    ax.legend(frameon=False)
    return ax


def plot_regularization(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy with and without dropout: one line with batch norm, one without.

    Args:
        rows: ``dropout``, ``batch_norm``, ``replicate`` and ``accuracy`` of one network.
        ax: Where to draw.
    """
    palette = sns.color_palette("colorblind")
    for i, (norm, name) in enumerate(((False, "no batch norm"), (True, "batch norm"))):
        own = rows[rows["batch_norm"] == norm]
        style = {"color": palette[i], "marker": MARKERS[i]}
        for _, run in own.groupby("replicate"):
            run = run.sort_values("dropout")
            ax.plot(
                run["dropout"].astype(int), run["accuracy"], lw=0.6, alpha=0.4, color=palette[i]
            )
        mean = own.groupby("dropout")["accuracy"].mean()
        ax.plot(mean.index.astype(int), mean, lw=2.5, ms=8, label=name, **style)
    ax.set_xticks([0, 1], ["no dropout", "dropout"])
    ax.set_xlim(-0.3, 1.3)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda a, _: f"{100 * a:.2f}%"))
    ax.set_ylabel("accuracy")
    ax.legend(frameon=False)
    return ax
