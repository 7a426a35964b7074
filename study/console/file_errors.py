"""Errors of file systems that refuse a legitimate request.

A full disk, a quota, a lost mount: not the program's fault, and not a trial's. Only this module
distinguishes them from other errors.
"""

from __future__ import annotations

import errno
import os
import shlex
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
# What may also come from elsewhere: a refusal if a file was asked for, not if a text names it.
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
    """Whether an error, or the text of one, says that a file system refuses."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (*REFUSALS, *OTHERS)
    return any(os.strerror(number) in str(error) for number in REFUSALS)


@contextmanager
def saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Turn a refusal into a `UserError` that says what to do.

    Args:
        folder: Of the study that is run.
    """
    try:
        yield
    except Exception as error:
        if (told := way_out(error, folder)) is None:
            raise
        raise told from None


def way_out(error: BaseException | None, folder: Path) -> UserError | None:
    """What the user can do about `error`, which Ray may have wrapped; None if nothing.

    Args:
        error: Raised while a study ran.
        folder: The study's.
    """
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, OSError) and not os.access(folder / "study.json", os.F_OK):
            return UserError(
                f"{folder}: was moved or removed while the study ran; put it back, then continue "
                f"with --resume {shlex.quote(str(folder))}"
            )
        if isinstance(error, OSError) and is_refusal(error):
            place = folder if error.filename is None else escape(str(error.filename), keep="")
            cure = "make room" if error.errno in FULL else "fix that"
            return StorageError(
                f"{place}: {one_line(error.strerror or error)}; finished work is kept: {cure}, "
                f"then continue with --resume {shlex.quote(str(folder))}"
            )
        error = error.__cause__ or error.__context__
    return None
