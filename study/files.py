"""Durable, all-or-nothing file writes; file locks; checks of paths and URIs."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from study.console.errors import UserError, cannot_be_read
from study.console.text import escape, shown

OBJECT_STORE = r"(s3|gs|gcs|abfss?|hdfs|viewfs)://[\w.-]+(/[^?#\s]*)?"
UNFINISHED = ".part-"  # prefix of files that are still being written
# The study and Ray use the first names for files only, the second for folders only.
FILE_NAME = re.compile(
    r".*\.(json|jsonl|log|npz|parquet|pkl|pt|txt)|\.lock|\.validate_storage_marker"
)
FOLDER_NAME = re.compile(r"histories|ray|trial_\d+|checkpoint_\d+")


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold a file's lock. No other process can take it meanwhile.

    Raises:
        BlockingIOError: Another process holds it.
    """
    # Opened for writing: network file systems grant exclusive locks only on such files.
    descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def is_held(file: Path) -> bool:
    """Whether a process holds a file's lock."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        try:  # a shared lock, held briefly; a driver that starts at that moment is refused
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
        return False


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` once it is complete and on the disk.

    After a power cut `path` holds the old content or the new one. Once this returns it holds
    the new one for certain.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=UNFINISHED, delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)  # NamedTemporaryFile creates private files
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and missing parents so that they survive a power cut."""
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.absolute().parent)


def open_plain(file: Path) -> IO[bytes]:
    """Open a regular file for reading. Refuses links, folders, and pipes (which would block).

    Raises:
        UserError: The path is not a regular file.
        OSError: The file cannot be opened.
    """
    if file.is_symlink():
        raise UserError(f"{file}: is a link to another place; put the file itself there")
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{file}: is not a file; restore it from a copy")
    return os.fdopen(descriptor, "rb")


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in `folder`."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a running driver removes folders
        raise cannot_be_read(escape(str(error.filename), keep=""), error)


def require_plain(folder: Path, *, besides: str) -> None:
    """Refuse a study folder that holds links, pipes or devices, or folders in place of files.

    A link in someone else's folder may lead anywhere, and anything written through it would
    land there.

    Args:
        folder: The study's folder.
        besides: Prefix of harmless links: the study only creates and removes them. A folder
            with this prefix is still refused.

    Raises:
        UserError: Something in the folder is not what its name says.
    """
    for place, folders, files in os.walk(folder, onerror=_unless_gone):
        for name in (*folders, *files):
            path = Path(place, name)
            where = escape(str(path), keep="")
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue  # a running driver removed it
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or name.startswith(besides)):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a file"
                raise UserError(
                    f"{where}: is {kind}, which is not allowed in a study's folder; put the file "
                    "or folder itself there"
                )
            is_file = FILE_NAME.fullmatch(name) or name.startswith((UNFINISHED, besides))
            if stat.S_ISDIR(mode) and is_file:
                raise UserError(f"{where}: is a folder, not a file; remove it or restore it")
            if stat.S_ISREG(mode) and FOLDER_NAME.fullmatch(name):
                raise UserError(
                    f"{where}: is a file, not a folder; remove it, or restore the folder"
                )


def is_uri(text: str) -> bool:
    """Whether `text` is a URI, such as ``s3://…``, rather than a path."""
    return re.match(r"\w+://", text) is not None


def require_uri(name: str, uri: Any) -> None:
    """Raise `UserError` unless `uri` is a plain object store address without parameters."""
    # Parameters after a '?' could send our requests, signed with our keys, to another server.
    if not isinstance(uri, str) or not re.fullmatch(OBJECT_STORE, uri):
        raise UserError(
            f"{name}: {shown(uri)} is not of the form s3://BUCKET/FOLDER; for a local or mounted "
            "folder use --results-dir"
        )
