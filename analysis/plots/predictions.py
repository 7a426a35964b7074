"""Draws the figures of the final models' predictions: confidence, errors, example images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from analysis.plots.style import GREY, count, whole_numbers


def plot_reliability(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy against confidence. On the diagonal the two are equal.

    Args:
        table: From `analysis.predicted.reliability`.
        ax: Where to draw.
    """
    ax.plot([0, 1], [0, 1], ls="--", color=GREY, zorder=0)
    colour = sns.color_palette("colorblind")[0]
    ax.vlines(table["confidence"], table["low"], table["high"], color=colour, lw=2)
    ax.plot(table["confidence"], table["accuracy"], "o", color=colour, ms=6)
    for row in table.itertuples():
        ax.annotate(
            f"{row.n:,}",
            (row.confidence, row.low),
            xytext=(0, -9),
            ha="center",  # pyright: ignore[reportArgumentType]
            textcoords="offset points",
            fontsize=7,
            color="0.45",
        )
    share = FuncFormatter(lambda x, _: f"{100 * x:.0f}%")
    ax.xaxis.set_major_formatter(share)
    ax.yaxis.set_major_formatter(share)
    ax.set(
        xlim=(0, 1.03),
        ylim=(-0.06, 1.03),
        xlabel="confidence",
        ylabel="share of correct predictions",
    )
    return ax


def plot_confidences(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Log-odds of correct and of wrong predictions.

    Args:
        rows: ``log_odds``, ``right`` and ``density``; from `analysis.predicted.confidence_bins`.
        ax: Where to draw.
    """
    palette = sns.color_palette("colorblind")
    for right, name, colour, style in (
        (True, "correct", palette[0], "-"),
        (False, "wrong", palette[3], "--"),
    ):
        own = rows[rows["right"] == right]
        ax.fill_between(own["log_odds"], own["density"], step="mid", color=colour, alpha=0.2, lw=0)
        ax.step(own["log_odds"], own["density"], where="mid", color=colour, ls=style, label=name)
    ax.set(xlabel="confidence (log-odds axis)", ylabel="share of predictions")
    places = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999)
    ax.set_xticks(
        [float(np.log(p / (1 - p))) for p in places],
        [f"{100 * p:g}%" for p in places],
        rotation=30,
        ha="right",
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f}%"))
    ax.legend(frameon=False)
    return ax


def plot_error_overlap(overlap: pd.DataFrame, *, ax: Axes) -> Axes:
    """Number of images by how many of the models miss them, with the number expected by chance.

    Args:
        overlap: From `analysis.predicted.error_overlap`.
        ax: Where to draw.
    """
    ax.bar(
        overlap["models"], overlap["images"], color=sns.color_palette("colorblind")[0], width=0.7
    )
    ax.plot(
        overlap["models"],
        overlap["expected"],
        "o--",
        color="0.45",
        ms=5,
        label="expected at random",
    )
    # Logarithmic, because chance would give a thousand images or almost none.
    ax.set(xlabel="models that miss the image", ylabel="images", yscale="log")
    ax.set_ylim(bottom=0.5)
    ax.yaxis.set_major_formatter(FuncFormatter(count))
    whole_numbers(ax)
    ax.grid(visible=False, axis="x")
    ax.legend(frameon=False)
    return ax


def plot_images(images: np.ndarray, captions: Sequence[str], axes: Sequence[Axes]) -> None:
    """A row of digits, dark on light, each with its caption.

    Args:
        images: uint8 (n, 28, 28).
        captions: One per image.
        axes: One per image.
    """
    for ax, image, caption in zip(axes, images, captions, strict=True):
        ax.imshow(255 - image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(caption, fontsize=8)
        ax.set_axis_off()
