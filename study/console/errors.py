"""Errors that the user can fix, and the checks of values that raise them."""

from __future__ import annotations

import math

from study.console.text import hint, shown

MOST = 10**9  # limit of every count: trials, epochs, images


class UserError(Exception):
    """An error the user can fix. The message is one line that says how."""


class StorageError(UserError):
    """Files cannot be read or written now. Their contents are neither damaged nor lost."""


def cannot_be_read(path: object, error: OSError) -> StorageError:
    """The error for a file or folder that the system does not let us read."""
    return StorageError(f"{path}: cannot be read ({error.strerror})")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        close = hint(value, choices) if isinstance(value, str) else ""
        raise UserError(
            f"{name}: unknown value {shown(value)}{close}; choose one of {', '.join(choices)}"
        )


def require_positive(
    name: str, value: float, *, integer: bool = False, or_zero: bool = False
) -> None:
    """Raise `UserError` unless `value` is a finite number above zero.

    Args:
        name: The value's name in the error message.
        value: The value to check.
        integer: Whether it must be whole, and at most `MOST`.
        or_zero: Whether zero is allowed.
    """
    number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    enough = number and (value > 0 or (or_zero and value == 0))
    if not enough or (isinstance(value, float) and not math.isfinite(value)):
        kind = "a whole number" if integer else "a finite number"
        least = "of zero or above" if or_zero else "above zero"
        raise UserError(f"{name}: {shown(value)} is not {kind} {least}")
    if integer and value > MOST:
        raise UserError(f"{name}: {shown(value)} is too large; use at most {MOST}")
