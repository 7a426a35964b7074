"""A figure as files and as part of a page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from study.files import replacing

# Colours of their own for what is neither paper nor data: on the page they follow the reader's
# light or dark scheme.
INK, GRID = "#202124", "#d8d9da"
STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: to be searched, read aloud and scaled
}


SLUG = re.compile(r"[\w.-]+")


def slug(text: str) -> str:
    """`text` as part of a file's name or of a place in a page: no markup, no way out."""
    return re.sub(r"[^\w.-]+", "-", text)[:50]


def require_slug(name: str) -> None:
    """Raise `ValueError` unless `name` can be a file's name and a place in a page."""
    if not SLUG.fullmatch(name):
        raise ValueError(f"{name!r} is not a slug")


@dataclass(frozen=True)
class Exhibit:
    """A figure of a report: computed, not yet drawn.

    Attributes:
        name: Of its files, without suffix, and its place in the page.
        title: Its heading, what is seen.
        caption: What is drawn, with the n and the kind of each band or interval.
        frame: The numbers it shows.
        draw: Draws them on a figure.
        size: Width and height, inches.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (7.5, 4.5)

    def __post_init__(self) -> None:
        require_slug(self.name)


def single(plot: Callable[..., Any], frame: pd.DataFrame, *more: Any) -> Callable[[Figure], None]:
    """`plot` on the only axes of a figure."""
    return lambda figure: plot(frame, *more, ax=figure.subplots())


def panels(
    plot: Callable[..., Any], frame: pd.DataFrame, count: int, *, share_y: bool = False
) -> Callable[[Figure], None]:
    """`plot` on `count` axes side by side."""
    return lambda figure: plot(frame, list(figure.subplots(1, count, sharey=share_y)))


def drawn(exhibit: Exhibit) -> Figure:
    """The figure, in the package's style."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"), mpl.rc_context(STYLE):
        figure = Figure(figsize=exhibit.size, layout="constrained")
        exhibit.draw(figure)
        for ax in figure.axes:
            sns.despine(ax=ax)
    return figure


def write(exhibit: Exhibit, folder: Path) -> str:
    """Write ``name.png``, ``name.svg`` and ``name.csv`` into `folder`; returns the page's SVG."""
    figure = drawn(exhibit)
    buffer = io.BytesIO()
    # The same figure gives the same bytes: no date, no random ids.
    with mpl.rc_context({**STYLE, "svg.hashsalt": exhibit.name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue().decode()
    with replacing(folder / f"{exhibit.name}.svg") as file:
        file.write(svg.encode())
    with replacing(folder / f"{exhibit.name}.png") as file:
        figure.savefig(file, dpi=150, format="png")
    write_csv(exhibit.frame, folder / f"{exhibit.name}.csv")
    return for_page(svg, exhibit.name, exhibit.title)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whole."""
    with replacing(path) as file:
        frame.to_csv(file, index=False)


def for_page(svg: str, name: str, title: str) -> str:
    """An SVG file's content made fit to stand in a page beside others.

    Its size follows the page, its ids are its own, and its ink the reader's colour scheme.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', lambda _: f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-')
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
