"""Make text from outside safe to show or paste; format durations and values."""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LONGEST_WORD = 80  # whose likeness to others is worth the time


def escape(text: str, keep: str = "\n\t") -> str:
    r"""`text` with control and other invisible characters written as escapes (``\x1b``).

    Args:
        text: Any text.
        keep: Characters that are left as they are. With "" the result is one line.
    """
    return "".join(
        c if c in keep or _is_visible(c) else c.encode("unicode_escape").decode() for c in text
    )


def is_writable(text: str) -> bool:
    """Whether `text` can be encoded, i.e. holds no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object, most: int = 80) -> str:
    """`value` as shown in an error: on one line and cut after `most` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits or nested brackets
        return f"<{type(value).__name__}> too large to show"
    return text if len(text) <= most else f"{text[:most]}..."


def one_line(error: object, most: int = 300) -> str:
    """A library's error message, joined into one line and cut after `most` characters."""
    return " ".join(str(error).split())[:most]


def hint(word: str, known: Iterable[str]) -> str:
    """`` (did you mean '…'?)``, if a `known` word begins with `word` or is close to it."""
    known, word = list(known), word[:LONGEST_WORD]
    longer = [each for each in known if each.startswith(word)]
    close = longer if len(longer) == 1 else difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def command_line(module: str, *arguments: object) -> str:
    """``python -m MODULE ARGUMENT …``, quoted for a shell."""
    # Without "./" a path that begins with a dash would be taken for an option.
    words = [f"./{a}" if isinstance(a, Path) and str(a)[0] == "-" else str(a) for a in arguments]
    return shlex.join(["python", "-m", module, *words])


def _is_visible(c: str) -> bool:
    # Joiners and wide spaces occur in text, though Python does not count them as printable.
    return c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs"


def format_duration(seconds: float) -> str:
    """``75`` -> ``1m15s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def format_value(value: Any) -> str:
    """``0.123456`` -> ``0.1235``; text is left as it is."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
