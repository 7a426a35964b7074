"""Colours, markers and axis ticks that all figures share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

MARKERS = "osD^vPX*<>"
ERROR_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9)
# From light to dark. Each has a contrast of 3 or more on the light and on the dark page.
RAMP = ("#1b9e77", "#2b7bba", "#8648c4")
GREY = "0.6"
LOST_COLOUR = "tab:red"  # of trials without a finite result
LEAST_ERROR = 1e-4  # smaller ones are drawn here, so that an error of zero has a place
STATUS_MARKERS = {
    "complete": "o",
    "pruned": "v",
    "interrupted": "s",
    "diverged": "x",
    "failed": "X",
}


def ordered_colours(count: int) -> list[Any]:
    """A colour ramp for things that have an order."""
    return list(sns.blend_palette(RAMP, count))


def arm_styles(arms: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """Colour and marker of each arm: a ramp if the names are numbers, else a palette."""
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


def count(value: float, _: object = None) -> str:
    """``100000`` -> ``100,000``, ``1e6`` -> ``1M``, ``0.1`` -> ``0.1``."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def plain_ticks(ax: Axes, values: Sequence[float]) -> None:
    """Label the x axis at `values` only."""
    ax.set_xticks(list(values), [count(value) for value in values])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()


def log_ticks(ax: Axes, label: Callable[..., str], subs: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic y axis at `subs` of each decade."""
    ax.yaxis.set_major_locator(LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(FuncFormatter(label))
    ax.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """``0.50`` -> ``0.5``."""
    return f"{value:g}"


def percent(value: float, _: object = None) -> str:
    """``0.985`` -> ``98.5%``."""
    return f"{100 * value:g}%"


def whole_numbers(ax: Axes) -> None:
    """Label the x axis at whole numbers only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def beside(x: float, count: int, width: float) -> np.ndarray:
    """`count` places around `x` on a logarithmic axis, so that points do not hide each other."""
    return x * np.exp(np.linspace(-width, width, count))
