"""Errors that the user can mend, and the checks that raise them."""

from __future__ import annotations

import math

from study.console.text import shown

MOST = 10**9  # of what is counted: trials, epochs, images


class UserError(Exception):
    """A mistake the user can mend; its text is one line that says how."""


class StorageError(UserError):
    """Files cannot be read or written now. What they hold is not damaged, and not lost."""


def cannot_be_read(path: object, error: OSError) -> StorageError:
    """What to raise for a file or folder that the system does not let us read."""
    return StorageError(f"{path}: cannot be read ({error.strerror})")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{name}: unknown value {shown(value)}; choose one of {', '.join(choices)}")


def require_positive(
    name: str, value: float, *, integer: bool = False, or_zero: bool = False
) -> None:
    """Raise `UserError` unless `value` is a finite number above zero; a whole one is limited."""
    number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    enough = number and (value > 0 or (or_zero and value == 0))
    if not enough or (isinstance(value, float) and not math.isfinite(value)):
        kind = "a whole number" if integer else "a finite number"
        least = "of zero or above" if or_zero else "above zero"
        raise UserError(f"{name}: {shown(value)} is not {kind} {least}")
    if integer and value > MOST:
        raise UserError(f"{name}: {shown(value)} is too large; use at most {MOST}")
