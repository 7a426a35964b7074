"""The console that all commands print to. It treats printed text as data, never as control."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from study.console.text import escape

UNLIMITED = 100_000  # columns


def accept_all_text() -> None:
    """Print characters that the output's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


class Terminal(Console):
    """A console that ignores markup and escapes control characters in what it prints.

    In a pipe or a file nothing is wrapped or cut.

    Args:
        on_closed: Called once if the reader of the output has gone (``| head -1``). Later output
            goes to stderr. If None, the command ends quietly at that point.
        **options: Options of Rich's console.
    """

    def __init__(self, *, on_closed: Callable[[], None] | None = None, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        if "width" not in options and not self.is_terminal:
            self.width = UNLIMITED
        self._on_closed = on_closed

    def render_str(self, text: str, **options: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride] -- Rich's options, passed on
        """Escape a string. Rich calls this for every string, including those in tables."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(escape(text), **options)

    def status(self, status: RenderableType, **options: Any) -> Status:  # pyright: ignore[reportIncompatibleMethodOverride] -- likewise
        """Show a status line. Rich itself would read markup in it."""
        return super().status(Text(escape(str(status))), **options)

    def on_broken_pipe(self) -> None:
        """Handle a reader that has gone; Rich calls this."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.file.fileno())  # or Python fails on exit when it flushes the rest
        os.close(nothing)
        if self._on_closed is None:
            self.quiet = True
            raise SystemExit(1)
        on_closed, self._on_closed = self._on_closed, None
        self.file = sys.stderr
        on_closed()
