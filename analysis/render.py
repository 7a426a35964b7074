"""Writes a figure as PNG, SVG and CSV, and prepares its SVG for the page."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.parts import Exhibit
from study.files import replacing

# Colours of text, axes and grid, and of nothing else. On the page they are replaced by colours
# that follow the reader's light or dark scheme.
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
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and scaled
}


def drawn(exhibit: Exhibit) -> Figure:
    """The figure, drawn in this package's style."""
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"), mpl.rc_context(STYLE):
        figure = Figure(figsize=exhibit.size, layout="constrained")
        exhibit.draw(figure)
        for ax in figure.axes:
            sns.despine(ax=ax)
    return figure


def write(exhibit: Exhibit, folder: Path) -> str:
    """Write ``name.png``, ``name.svg`` and ``name.csv`` into `folder`; return the page's SVG."""
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
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as file:
        frame.to_csv(file, index=False)


def for_page(svg: str, name: str, title: str) -> str:
    """An SVG file's content, changed so that it fits into a page with other figures.

    Its size follows the page, its ids are unique, and its ink follows the colour scheme.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', lambda _: f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-')
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
