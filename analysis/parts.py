"""What a page is made of: sections, with their figures and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

UNKNOWN = "\u2013"  # an en dash
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


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: Of its CSV file.
        caption: What it holds.
        frame: The numbers.
        shown: The same as text, as the page shows it.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame

    def __post_init__(self) -> None:
        require_slug(self.name)


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: Its place in the page.
        title: Its heading.
        text: Paragraphs.
        exhibits: Its figures.
        tables: Its tables.
    """

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_slug(self.name)


def known(values: Iterable[Any], text: Callable[[Any], str] = str) -> list[str]:
    """`values` as `text` of them; a dash for each that is not known."""
    return [text(value) if pd.notna(value) else UNKNOWN for value in values]


def renamed(made: Iterable[Exhibit], prefix: str) -> list[Exhibit]:
    """The same figures, whose names begin with `prefix`."""
    return [replace(exhibit, name=prefix + exhibit.name) for exhibit in made]
