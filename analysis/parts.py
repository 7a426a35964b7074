"""The parts of a page: sections, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from study.results.health.card import Card

UNKNOWN = "\u2013"  # an en dash
SLUG = re.compile(r"[\w.-]+")


def slug(text: str) -> str:
    """`text` as part of a file name or an anchor: letters, digits, ``_``, ``.`` and ``-`` only."""
    return re.sub(r"[^\w.-]+", "-", text)[:50]


def require_slug(name: str) -> None:
    """Raise `ValueError` unless `name` can be a file name and an anchor."""
    if not SLUG.fullmatch(name):
        raise ValueError(f"{name!r} is not a slug")


@dataclass(frozen=True)
class Exhibit:
    """A figure of the page, computed but not yet drawn.

    Attributes:
        name: The name of its files, without suffix, and its anchor.
        title: Its heading: what it shows.
        caption: What is drawn, with n and the kind of each band or interval.
        frame: The numbers it shows.
        draw: Draws the numbers on a figure.
        size: Width and height in inches.
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
    """A function that draws with `plot` on the only axes of a figure."""
    return lambda figure: plot(frame, *more, ax=figure.subplots())


def panels(
    plot: Callable[..., Any], frame: pd.DataFrame, count: int, *, share_y: bool = False
) -> Callable[[Figure], None]:
    """A function that draws with `plot` on `count` axes side by side."""
    return lambda figure: plot(frame, list(figure.subplots(1, count, sharey=share_y)))


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: The name of its CSV file, and its anchor.
        caption: What it contains.
        frame: The numbers.
        shown: The numbers as text, as the page shows them.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame

    def __post_init__(self) -> None:
        require_slug(self.name)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Its anchor.
        title: Its heading.
        text: Paragraphs.
        exhibits: Its figures.
        tables: Its tables.
        cards: Of a search, what its health checks found.
    """

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_slug(self.name)


def known(values: Iterable[Any], text: Callable[[Any], str] = str) -> list[str]:
    """`values` as text. Each unknown one is a dash."""
    return [text(value) if pd.notna(value) else UNKNOWN for value in values]


def renamed(made: Iterable[Exhibit], prefix: str) -> list[Exhibit]:
    """The same figures, with `prefix` before their names."""
    return [replace(exhibit, name=prefix + exhibit.name) for exhibit in made]
