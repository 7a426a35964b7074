"""Simulated deaths of the process or the machine at any operation on files below a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"}


class Death(BaseException):
    """The process or the machine dies here. After this no file changes."""


class Recorder:
    """Counts operations that change files below a folder, and dies before one of them.

    It also knows what a power cut would then leave: each file's content at the file's last fsync,
    and each folder's names at the folder's last fsync. No disk may keep less than that.

    Args:
        root: The folder, which must exist.
        die_at: Number of the first operation, from 0, that does not happen; None: never die.
    """

    active: Recorder | None = None

    def __init__(self, root: Path, die_at: int | None = None) -> None:
        self.root = root.resolve()
        self.die_at = die_at
        self.operations = 0
        self.dead = False
        self.unsynced: Path | None = None  # the file whose fsync did not happen
        self.synced_bytes = 0  # bytes of it that were synced before
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._folders: set[int] = {root.stat().st_ino}
        self._held: dict[int, int] = {}  # kept open, so that no inode number is used again
        for folder, _, files in os.walk(root):  # everything that exists now is on the disk
            self._keep_names(Path(folder))
            for name in files:
                path = Path(folder, name)
                self._contents[path.stat().st_ino] = path.read_bytes()

    def __enter__(self) -> Recorder:
        self._fsync, os.fsync = os.fsync, self._synced
        Recorder.active = self
        return self

    def __exit__(self, *_: object) -> None:
        Recorder.active = None
        os.fsync = self._fsync
        for handle in self._held.values():
            os.close(handle)

    def happens(self, path: Path) -> None:
        """Note that an operation is about to happen."""
        if self.root not in path.parents:
            return
        if self.dead or self.operations == self.die_at:
            self.dead = True
            raise Death
        self.operations += 1

    def _synced(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if not self.dead:
            self.unsynced = path
            self.synced_bytes = len(self._contents.get(os.fstat(handle).st_ino, b""))
        self.happens(path if path != self.root else path / "names")
        self.unsynced = None
        if path.is_dir():
            self._keep_names(path)
        else:
            self._contents[os.fstat(handle).st_ino] = path.read_bytes()

    def _keep_names(self, folder: Path) -> None:
        entries = [entry for entry in os.scandir(folder) if not entry.is_symlink()]
        for entry in entries:
            self._hold(entry)
        self._names[folder.stat().st_ino] = {entry.name: entry.inode() for entry in entries}

    def _hold(self, entry: os.DirEntry) -> None:
        if entry.inode() in self._held:
            return
        self._held[entry.inode()] = os.open(entry.path, os.O_RDONLY)
        if entry.is_dir():
            self._folders.add(entry.inode())

    def leave(self, target: Path) -> None:
        """Write what a power cut now would leave below the root into `target`."""
        self._leave(self.root.stat().st_ino, target)

    def _leave(self, folder: int, target: Path) -> None:
        target.mkdir()
        for name, number in self._names.get(folder, {}).items():
            if number in self._folders:
                self._leave(number, target / name)
            else:
                (target / name).write_bytes(self._contents.get(number, b""))


def _audit(event: str, arguments: tuple) -> None:
    recorder = Recorder.active
    if recorder is None or (event != "open" and event not in CHANGES):
        return
    if event == "open" and not arguments[2] & WRITES:
        return
    for path in arguments[:2] if event == "os.rename" else arguments[:1]:
        if isinstance(path, (str, bytes, os.PathLike)):
            recorder.happens(Path(os.fsdecode(path)).absolute())


sys.addaudithook(_audit)
