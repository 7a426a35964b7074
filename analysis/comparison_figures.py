"""Draws what comparisons show: ``plot_*(frame, ax=...)``, each frame computed elsewhere.

Arms that are ordered (batch sizes, numbers of images) take an ordered ramp, others the
colour-blind palette; each has a marker of its own as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.figures import ERROR_TICKS, GREY, MARKERS, ordered_colours

Style = dict[str, Any]


def arm_styles(arms: Iterable[Any]) -> dict[Any, Style]:
    """Colour and marker of each arm: a ramp where the names are numbers, else a palette."""
    names = list(dict.fromkeys(arms))
    if all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(name)) for name in names):
        names.sort(key=float)
        colours = ordered_colours(len(names))
    else:
        colours = sns.color_palette("colorblind", len(names))
    return {
        name: {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
        for i, (name, colour) in enumerate(zip(names, colours, strict=True))
    }


def plot_loss_by_batch(curves: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Training loss against steps, images seen and seconds, one panel each.

    Faint dots: losses of single steps of the first replicate. Line: the mean over replicates of
    the smoothed curves; band: from the lowest to the highest replicate. Both break at the end of
    the first epoch, which is smoothed by itself.

    Args:
        curves: From `analysis.arms.loss_curves`.
        axes: Three.
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
        ax.xaxis.set_major_formatter(FuncFormatter(_count))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("training loss (nats per example)")
    low = curves.loc[curves["smoothed"] > 0, "smoothed"].min()
    axes[0].set_ylim(low / 2, curves["smoothed"].max() * 1.3)
    axes[-1].legend(frameon=False)


def plot_loss_noise(noise: pd.DataFrame, *, ax: Axes) -> Axes:
    """Scatter of the steps' losses against batch size, with the line sigma / sqrt(B).

    Args:
        noise: From `analysis.arms.loss_noise`.
        ax: Where to draw.
    """
    styles = arm_styles(noise["batch_size"])
    for size, style in styles.items():
        own = noise[noise["batch_size"] == size]
        spread = np.exp(np.linspace(-0.06, 0.06, len(own)))
        ax.plot(size * spread, own["sd"], ls="", ms=6, alpha=0.8, **style)
    sigma = np.exp((np.log(noise["sd"]) + 0.5 * np.log(noise["batch_size"])).mean())
    sizes = np.array([noise["batch_size"].min() / 1.5, noise["batch_size"].max() * 1.5])
    ax.plot(sizes, sigma / np.sqrt(sizes), ls="--", color=GREY, zorder=0)
    label = f"\u03c3 / \u221aB with \u03c3 = {sigma:.2f}"  # sigma over the root of B
    middle = np.sqrt(sizes.prod())
    ax.annotate(label, (middle, sigma / middle**0.5), xytext=(6, 4),
                textcoords="offset points", color="0.45")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="batch size",
           ylabel="sd of a step's loss in the last epoch")  # fmt: skip
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    _plain_ticks(ax, sorted(styles))
    return ax


def plot_accuracy_by_arm(by_epoch: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy after each epoch on an axis that is logarithmic in the error.

    Thin: each replicate. Thick: the mean, with its 95 % t interval as a band.

    Args:
        by_epoch: From `analysis.arms.accuracy_by_epoch`.
        ax: Where to draw.
    """
    for arm, style in arm_styles(by_epoch["arm"]).items():
        own = by_epoch[by_epoch["arm"] == arm]
        for _, run in own.groupby("replicate"):
            ax.plot(run["epoch"], 1 - run["accuracy"], color=style["color"], lw=0.6, alpha=0.35)
        mean = own.drop_duplicates("epoch").sort_values("epoch")
        ax.fill_between(mean["epoch"], 1 - mean["high"], 1 - mean["low"], color=style["color"],
                        alpha=0.25, lw=0)  # fmt: skip
        ax.plot(mean["epoch"], 1 - mean["mean"], lw=2, ms=5, label=arm, **style)
    ax.set(yscale="log", xlabel="epoch", ylabel="accuracy")
    ax.invert_yaxis()
    ax.set_yticks([e for e in ERROR_TICKS if ax.get_ylim()[1] <= e <= ax.get_ylim()[0]])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{100 * (1 - e):g} %"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_differences(differences: pd.DataFrame, margin: float, *, ax: Axes) -> Axes:
    """Paired differences of accuracy, with the zone of equivalence.

    Args:
        differences: Rows of `analysis.arms.paired_differences`, with a ``comparison`` each.
        margin: Half width of the zone, percentage points.
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
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}" if x else "0"))
    ax.set_xticks(_difference_ticks(rows))
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("difference of accuracy, percentage points")
    return ax


def _difference_ticks(rows: pd.DataFrame) -> list[float]:
    """As far as the rows reach, and so sparse that no two labels touch."""
    shown = rows[["difference", "low", "high"]].to_numpy()
    left, right = min(np.nanmin(shown), -0.1), max(np.nanmax(shown), 0.1)
    steps = (0.1, 0.5, 2, 5, 20, 50)
    ticks = [-t for t in steps[::-1]] + [0.0] + list(steps)
    return [t for t in ticks if left <= t <= right]


def plot_to_target(reached: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Epochs' worth of steps, images and seconds until an accuracy; every replicate a dot.

    Args:
        reached: From `analysis.arms.to_target`.
        axes: Three.
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
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(_count))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(visible=False, axis="x")


def plot_noise_scale(scale: pd.DataFrame, critical: float, *, ax: Axes) -> Axes:
    """The gradient's noise scale after each epoch, and the report's critical batch size.

    Args:
        scale: From `analysis.noise.noise_scale_by_epoch`.
        critical: The report's number.
        ax: Where to draw.
    """
    for arm, style in arm_styles(scale["arm"]).items():
        own = scale[(scale["arm"] == arm) & np.isfinite(scale["noise_scale"])]
        ax.fill_between(
            own["epoch"], own["low"], own["high"], color=style["color"], alpha=0.2, lw=0
        )
        ax.plot(own["epoch"], own["noise_scale"], lw=2, ms=5, label=f"batch {arm}", **style)
    ax.axhline(critical, color=GREY, ls="--")
    ax.annotate(f"the report: {critical:,.0f}", (1, critical), xytext=(2, 4),
                textcoords="offset points", color="0.45")  # fmt: skip
    ax.set(yscale="log", xlabel="epoch", ylabel="simple noise scale (images)")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(_count))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, loc="lower right")
    return ax


def plot_reliability(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy against confidence; on the diagonal a model is as sure as it is right.

    Args:
        table: From `analysis.predicted.reliability`.
        ax: Where to draw.
    """
    ax.plot([0, 1], [0, 1], ls="--", color=GREY, zorder=0)
    colour = sns.color_palette("colorblind")[0]
    ax.vlines(table["confidence"], table["low"], table["high"], color=colour, lw=2)
    ax.plot(table["confidence"], table["accuracy"], "o", color=colour, ms=6)
    for row in table.itertuples():
        ax.annotate(f"{row.n:,}", (row.confidence, row.low), xytext=(0, -9), ha="center",  # pyright: ignore[reportArgumentType]
                    textcoords="offset points", fontsize=7, color="0.45")  # fmt: skip
    share = FuncFormatter(lambda x, _: f"{100 * x:.0f} %")
    ax.xaxis.set_major_formatter(share)
    ax.yaxis.set_major_formatter(share)
    ax.set(xlim=(0, 1.03), ylim=(-0.06, 1.03), xlabel="confidence", ylabel="share that is right")
    return ax


def plot_confidences(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Log-odds of right and of wrong predictions.

    Args:
        rows: ``log_odds``, ``right`` and ``density``; from `analysis.predicted.confidence_bins`.
        ax: Where to draw.
    """
    palette = sns.color_palette("colorblind")
    for right, name, colour, style in (
        (True, "right", palette[0], "-"), (False, "wrong", palette[3], "--"),
    ):  # fmt: skip
        own = rows[rows["right"] == right]
        ax.fill_between(own["log_odds"], own["density"], step="mid", color=colour, alpha=0.2, lw=0)
        ax.step(own["log_odds"], own["density"], where="mid", color=colour, ls=style, label=name)
    ax.set(xlabel="confidence (on a log-odds axis)", ylabel="share of the predictions")
    places = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999)
    ax.set_xticks([float(np.log(p / (1 - p))) for p in places],
                  [f"{100 * p:g} %" for p in places], rotation=30, ha="right")  # fmt: skip
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
    ax.legend(frameon=False)
    return ax


def plot_error_overlap(overlap: pd.DataFrame, *, ax: Axes) -> Axes:
    """Images by how many of the models miss them, beside what chance would give.

    Args:
        overlap: From `analysis.predicted.error_overlap`.
        ax: Where to draw.
    """
    ax.bar(
        overlap["models"], overlap["images"], color=sns.color_palette("colorblind")[0], width=0.7
    )
    ax.plot(overlap["models"], overlap["expected"], "o--", color="0.45", ms=5,
            label="if errors fell at random")  # fmt: skip
    # Logarithmic, since chance would give a thousand images or almost none.
    ax.set(xlabel="models that miss the image", ylabel="images", yscale="log")
    ax.set_ylim(bottom=0.5)
    ax.yaxis.set_major_formatter(FuncFormatter(_count))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=False, axis="x")
    ax.legend(frameon=False)
    return ax


def plot_learning_curve(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Error against the number of training images, with a power law through the means.

    Args:
        rows: ``train_examples``, ``replicate`` and ``error`` (a fraction).
        ax: Where to draw.
    """
    for n, style in arm_styles(rows["train_examples"]).items():
        own = rows[rows["train_examples"] == n]
        spread = np.exp(np.linspace(-0.04, 0.04, len(own)))
        ax.plot(n * spread, own["error"], ls="", ms=6, alpha=0.8, **style)
    fitted = rows[rows["error"] > 0].astype(float)
    if fitted["train_examples"].nunique() > 1:
        slope, offset = np.polyfit(np.log(fitted["train_examples"]), np.log(fitted["error"]), 1)
        x = np.geomspace(rows["train_examples"].min() / 1.2, rows["train_examples"].max() * 1.2, 50)
        ax.plot(x, np.exp(offset) * x**slope, ls="--", color=GREY, zorder=0,
                label=f"error ∝ images$^{{{slope:.2f}}}$")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="training images", ylabel="error")
    _plain_ticks(ax, sorted(rows["train_examples"].unique()))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{100 * e:g} %"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)
    return ax


def plot_regularization(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Accuracy with and without dropout, a line with and one without batch norm.

    Args:
        rows: ``dropout``, ``batch_norm``, ``replicate`` and ``accuracy``, of one network.
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
    ax.yaxis.set_major_formatter(FuncFormatter(lambda a, _: f"{100 * a:.2f} %"))
    ax.set_ylabel("accuracy")
    ax.legend(frameon=False)
    return ax


def plot_throughput(rows: pd.DataFrame, *, ax: Axes) -> Axes:
    """Training images a second by batch size; every replicate a dot.

    Args:
        rows: From `analysis.arms.throughput`.
        ax: Where to draw.
    """
    styles = arm_styles(rows["batch_size"])
    for size, style in styles.items():
        own = rows[rows["batch_size"] == size]
        spread = np.exp(np.linspace(-0.06, 0.06, len(own)))
        ax.plot(size * spread, own["images_per_second"], ls="", ms=6, alpha=0.8, **style)
    ax.set(xscale="log", xlabel="batch size", ylabel="training images a second")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(FuncFormatter(_count))
    _plain_ticks(ax, sorted(styles))
    return ax


def plot_images(images: np.ndarray, captions: Sequence[str], axes: Sequence[Axes]) -> None:
    """A row of digits, dark on light, each with its caption.

    Args:
        images: uint8 (n, 28, 28).
        captions: One each.
        axes: One each.
    """
    for ax, image, caption in zip(axes, images, captions, strict=True):
        ax.imshow(255 - image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(caption, fontsize=8)
        ax.set_axis_off()


def _count(value: float, _: object = None) -> str:
    """``100000`` -> ``100 000``, ``1e6`` -> ``1 M``, ``0.1`` -> ``0.1``."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.0f}".replace(",", " ") if value >= 1 else f"{value:g}"


def _plain_ticks(ax: Axes, values: Sequence[float]) -> None:
    ax.set_xticks(list(values), [_count(value) for value in values])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()
