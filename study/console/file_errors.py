"""Errors of the file system (full disk, quota, lost mount) and what the user can do about them.

Neither the program nor a trial is at fault in these. Only this module distinguishes them from
other errors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.console.errors import StorageError, UserError
from study.console.text import escape, one_line

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSALS = (
    *FULL,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.EMFILE,
    errno.ENFILE,
)
# These may have other causes too. They count in an OSError, but not if only a text names them.
OTHERS = (
    errno.EFBIG,
    errno.ETIMEDOUT,
    errno.EREMOTEIO,
    errno.EUCLEAN,
    errno.ENOMEM,
    errno.ENOLCK,
    errno.EHOSTDOWN,
    errno.EBUSY,
)


def is_refusal(error: object) -> bool:
    """Whether an error, or its text, says that the file system refused a request."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (*REFUSALS, *OTHERS)
    return any(os.strerror(number) in str(error) for number in REFUSALS)


@contextmanager
def saying_how_to_go_on(folder: Path, again: str) -> Iterator[None]:
    """Turn a file system's refusal into a `UserError` that says what to do.

    Args:
        folder: The folder of the running study.
        again: The command that continues it.
    """
    try:
        yield
    except Exception as error:
        if (explained := way_out(error, folder, again)) is None:
            raise
        raise explained from None


def way_out(error: BaseException | None, folder: Path, again: str) -> UserError | None:
    """A `UserError` that says what the user can do about `error`; None if they can do nothing.

    Args:
        error: An error raised while a study ran. Ray may have wrapped it.
        folder: The study's folder.
        again: The command that continues it.
    """
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, OSError) and not os.access(folder / "study.json", os.F_OK):
            return UserError(
                f"{folder}: was moved or removed while the study ran; put it back, then continue "
                f"with: {again}"
            )
        if isinstance(error, OSError) and is_refusal(error):
            place = folder if error.filename is None else escape(str(error.filename), keep="")
            cure = "free some space" if error.errno in FULL else "fix that"
            return StorageError(
                f"{place}: {one_line(error.strerror or error)}; finished work is saved: {cure}, "
                f"then continue with: {again}"
            )
        error = error.__cause__ or error.__context__
    return None
