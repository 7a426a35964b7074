"""The parser, argument types and one-line error handling shared by all commands."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.config.study import LONGEST_NAME
from study.console.errors import UserError
from study.console.terminal import Terminal, accept_all_text
from study.console.text import escape, hint, shown
from study.files import is_uri

LONGEST_PATH = 3700  # bytes: 4096 less the study's name and what Ray puts below it


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and points to ``--help``.

    Options have to be written out. The help shows the lines of description and epilog as they are.
    """

    def __init__(self, **options: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=raw, allow_abbrev=False, **options)
        accept_all_text()  # here, because every command makes a parser before it prints anything

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] -- its overloads
        """Parse the command line. Refuses empty words, control characters and unknown options."""
        words = list(sys.argv[1:] if args is None else args)
        for word in words:
            if not word or escape(word, keep="") != word:
                self.error(f"{word!r}: is empty or holds a character that cannot be shown")
        options = words[: words.index("--")] if "--" in words else words
        for option in (word.partition("=")[0] for word in options if word.startswith("--")):
            # argparse takes a word with a space for a value.
            if " " not in option and option not in (known := self._option_string_actions):
                self.error(f"{option}: unknown option{hint(option, known)}")
        return super().parse_known_args(words, namespace)

    def print_help(self, file: Any = None) -> None:
        """Print the command's help."""
        Terminal(file=file).print(self.format_help(), end="", soft_wrap=True)

    def error(self, message: str) -> Any:
        """Exit with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def number(text: str) -> float:
    """Argparse type of a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def duration(text: str) -> float:
    """Argparse type of a duration: ``90s``, ``10m``, ``2h`` or plain seconds. In seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or not 0 < float(match[1]) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def place(text: str) -> Path:
    """Argparse type of a path that the system accepts."""
    path = Path(text)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise argparse.ArgumentTypeError(
            f"a part of {shown(text)} is longer than {LONGEST_NAME} bytes"
        )
    if not text or len(os.fsencode(path.absolute())) > LONGEST_PATH:
        raise argparse.ArgumentTypeError(f"{shown(text)} is empty, or too long for a path")
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # the code that uses the path decides whether it must exist
    except OSError as error:  # e.g. a loop of links, or a folder that we may not enter
        raise argparse.ArgumentTypeError(f"{text!r}: {error.strerror}") from None
    return path


def place_or_uri(text: str) -> str:
    """Argparse type of a folder or of s3://BUCKET/FOLDER."""
    return text if is_uri(text) else str(place(text))


def guarded(run: Callable[[], int]) -> int:
    """Call `run` and return the exit status; print a `UserError` as one line."""
    try:
        return run()
    except UserError as error:
        Terminal(stderr=True).print(f"error: {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        Terminal(stderr=True).print("\nInterrupted.")
        return 130
