"""Makes text from outside (names, paths, errors, file contents) safe to show or paste."""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path
from typing import Any


def escape(text: str, keep: str = "\n\t") -> str:
    r"""`text` with what a terminal obeys, or cannot show, written out (``\x1b``).

    Args:
        text: Whatever it is.
        keep: Characters that are left as they are; "" makes one line of it.
    """
    return "".join(
        c if c in keep or _is_visible(c) else c.encode("unicode_escape").decode() for c in text
    )


def is_writable(text: str) -> bool:
    """Whether `text` can be written to a file: it holds no half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object, most: int = 80) -> str:
    """`value` as an error names it: on one line, and not longer than `most` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"<{type(value).__name__}> too large to show"
    return text if len(text) <= most else f"{text[:most]}..."


def one_line(error: object, most: int = 300) -> str:
    """A library's error message of several lines, joined into one."""
    return " ".join(str(error).split())[:most]


def command_line(module: str, *arguments: object) -> str:
    """``python -m MODULE ARGUMENT …``, quoted so that a shell takes it as it is meant."""
    # A path that begins with a dash would be taken for an option.
    words = [f"./{a}" if isinstance(a, Path) and str(a)[0] == "-" else str(a) for a in arguments]
    return shlex.join(["python", "-m", module, *words])


def _is_visible(c: str) -> bool:
    # Joiners and wide spaces, which Python does not count as printable, are parts of words.
    return c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs"


def format_duration(seconds: float) -> str:
    """``75`` -> ``1m15s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def format_value(value: Any) -> str:
    """``0.123456`` -> ``0.1235``; text stays."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def format_params(values: dict[str, Any]) -> str:
    """``batch_size=512 lr=1 gamma=0.7 width_mult=1``."""
    return " ".join(f"{name}={format_value(value)}" for name, value in values.items())
