"""Draws the figures of the batch-size comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from analysis.plots.style import (
    GREY,
    arm_styles,
    beside,
    count,
    log_ticks,
    plain,
    plain_ticks,
    whole_numbers,
)


def plot_loss_by_batch(curves: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Training loss against steps, images seen and seconds, one panel each.

    Faint dots: losses of single steps of the first replicate. Line: mean of the replicates'
    smoothed curves. Band: from the lowest to the highest replicate. Line and band break at the
    end of the first epoch, which is smoothed separately.

    Args:
        curves: From `analysis.comparison_frames.loss_curves`.
        axes: Three axes.
    """
    units = {"step": "steps", "examples": "images seen", "seconds": "seconds"}
    styles = arm_styles(curves["arm"])
    for ax, (x, unit) in zip(axes, units.items(), strict=True):
        for arm, style in styles.items():
            own = curves[curves["arm"] == arm]
            first = own[own["replicate"] == own["replicate"].min()]
            colour = style["color"]
            ax.plot(first[x], first["loss"], ".", color=colour, ms=2.5, alpha=0.35, lw=0, zorder=1)
            for later, part in own.groupby(own["epoch"] > 1):
                mean = part.groupby("step")[[x, "smoothed"]].mean()
                edge = part.groupby("step")["smoothed"].agg(["min", "max"])
                label = None if later else f"batch {arm}"
                ax.fill_between(mean[x], edge["min"], edge["max"], color=colour, alpha=0.25, lw=0)
                ax.plot(mean[x], mean["smoothed"], color=colour, lw=2, zorder=3, label=label)
        known = (curves[x] > 0).any()  # the seconds may have been lost
        ax.set(xscale="log" if known else "linear", yscale="log", xlabel=unit)
        ax.xaxis.set_major_formatter(FuncFormatter(count))
        log_ticks(ax, plain)
    axes[0].set_ylabel("training loss (nats per example)")
    low = curves.loc[curves["smoothed"] > 0, "smoothed"].min()
    axes[0].set_ylim(low / 2, curves["smoothed"].max() * 1.3)
    axes[-1].legend(frameon=False)


def plot_loss_noise(noise: pd.DataFrame, *, ax: Axes) -> Axes:
    """Scatter of the step losses against batch size, with the line sigma / sqrt(B).

    Args:
        noise: From `analysis.comparison_frames.loss_noise`.
        ax: Where to draw.
    """
    styles = arm_styles(noise["batch_size"])
    for size, style in styles.items():
        own = noise[noise["batch_size"] == size]
        ax.plot(beside(size, len(own), 0.06), own["sd"], ls="", ms=6, alpha=0.8, **style)
    sigma = np.exp((np.log(noise["sd"]) + 0.5 * np.log(noise["batch_size"])).mean())
    sizes = np.array([noise["batch_size"].min() / 1.5, noise["batch_size"].max() * 1.5])
    ax.plot(sizes, sigma / np.sqrt(sizes), ls="--", color=GREY, zorder=0)
    label = f"\u03c3 / \u221aB with \u03c3 = {sigma:.2f}"
    middle = np.sqrt(sizes.prod())
    ax.annotate(
        label,
        (middle, sigma / middle**0.5),
        xytext=(6, 4),
        textcoords="offset points",
        color="0.45",
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="batch size",
        ylabel="sd of the step loss in the last epoch",
    )
    log_ticks(ax, plain)
    plain_ticks(ax, sorted(styles))
    return ax


def plot_noise_scale(scale: pd.DataFrame, critical: float, *, ax: Axes) -> Axes:
    """The gradient's noise scale after each epoch, and the paper's critical batch size.

    Args:
        scale: From `analysis.noise.noise_scale_by_epoch`.
        critical: The paper's number.
        ax: Where to draw.
    """
    for arm, style in arm_styles(scale["arm"]).items():
        own = scale[(scale["arm"] == arm) & np.isfinite(scale["noise_scale"])]
        ax.fill_between(
            own["epoch"], own["low"], own["high"], color=style["color"], alpha=0.2, lw=0
        )
        ax.plot(own["epoch"], own["noise_scale"], lw=2, ms=5, label=f"batch {arm}", **style)
    ax.axhline(critical, color=GREY, ls="--")
    ax.annotate(
        f"the paper: {critical:,.0f}",
        (1, critical),
        xytext=(2, 4),
        textcoords="offset points",
        color="0.45",
    )
    ax.set(yscale="log", xlabel="epoch", ylabel="simple noise scale (images)")
    log_ticks(ax, count)
    whole_numbers(ax)
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_throughput(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Training images per second by batch size, one dot per replicate.

    Args:
        rows: From `analysis.comparison_frames.throughput`.
        ax: Where to draw.
    """
    styles = arm_styles(rows["batch_size"])
    for size, style in styles.items():
        own = rows[rows["batch_size"] == size]
        ax.plot(
            beside(size, len(own), 0.06), own["images_per_second"], ls="", ms=6, alpha=0.8, **style
        )
    ax.set(xscale="log", xlabel="batch size", ylabel="training images per second")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(FuncFormatter(count))
    plain_ticks(ax, sorted(styles))
    return ax
