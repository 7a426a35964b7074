"""A forgetful disk: a file system in memory, for tests of power cuts.

Every process sees at once what is written. A power cut leaves only what was synced, and no more
than POSIX promises. ``fsync`` of a file keeps its content, not its name. ``fsync`` of a folder
keeps the names in it, not the content of the files: a file whose content was never synced comes
back empty. Owners, modes and times are kept as they are.

A cut with a seed simulates a gentler disk, which had already written some of the rest: of each
file's new content nothing, a beginning or all; of each changed name the old or the new.

Needs root, Linux and libfuse. ``python -m tests.helpers.forgetful FOLDER`` serves until FOLDER is
unmounted; extended attributes set on FOLDER are its commands.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK, BLOCKS = 4096, 2**20  # 4 GB, the free space that it reports


class ForgetfulDisk:
    """The mounted disk, and its power switch."""

    def __init__(self, path):
        self.path = path
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.forgetful", path], cwd=ROOT
        )
        while not os.path.ismount(path):
            assert self._server.poll() is None, "cannot be mounted"
            time.sleep(0.02)

    def cut(self, seed=None):
        """Lose everything that was not synced or, with a seed, what a gentler disk would lose."""
        os.setxattr(self.path, "user.cut", b"" if seed is None else str(seed).encode())

    def sync(self):
        """Keep everything as it is now."""
        os.setxattr(self.path, "user.sync", b"")

    def close(self):
        """Unmount it, even if a process still uses it."""
        subprocess.run(["umount", "--lazy", self.path], check=True)
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


@contextmanager
def mounted(path):
    """A forgetful disk at the folder `path`."""
    disk = ForgetfulDisk(path)
    try:
        yield disk
    finally:
        disk.close()


class Inode:
    """A file, link or folder, whatever its names. ``kept`` is what a cut leaves of it.

    The content is the bytes of a file, the path of a link, or the inodes of a folder by name.
    """

    numbers = itertools.count(1)

    def __init__(self, mode, content):
        self.mode = mode
        self.content = content
        self.number = next(self.numbers)
        self.owner = (os.getuid(), os.getgid())
        self.read_ns = self.written_ns = time.time_ns()
        self.kept = content if stat.S_ISLNK(mode) else type(content)()

    def is_folder(self):
        return stat.S_ISDIR(self.mode)

    def sync(self):
        self.kept = self.content.copy()

    def sync_all(self):
        for child in self.content.values() if self.is_folder() else ():
            child.sync_all()
        if not stat.S_ISLNK(self.mode):
            self.sync()

    def cut(self, moments):
        """Lose unsynced data. `moments` is None, or the random numbers of a gentler disk."""
        if stat.S_ISLNK(self.mode):
            return
        if moments is not None:
            survive = _some_names if self.is_folder() else _some_bytes
            self.kept = survive(self.kept, self.content, moments)
        self.content = self.kept.copy()
        for child in self.content.values() if self.is_folder() else ():
            child.cut(moments)


def _some_bytes(old, new, moments):
    if old == new or moments.random() < 1 / 3:
        return old
    beginning = len(old) if new.startswith(old) else 0  # appended data is written in order
    return new.copy() if moments.random() < 0.5 else new[: moments.randint(beginning, len(new))]


def _some_names(old, new, moments):
    chosen = {name: moments.choice((old, new)).get(name) for name in sorted(old | new)}
    return {name: inode for name, inode in chosen.items() if inode is not None}


class FileSystem:
    """The operations that the kernel asks for. It handles locks, mappings and open files itself."""

    use_ns = True

    def __init__(self):
        self.root = Inode(stat.S_IFDIR | 0o755, {})

    def find(self, path):
        inode = self.root
        for name in filter(None, path.split("/")):
            inode = inode.content.get(name) if inode.is_folder() else None
            if inode is None:
                raise OSError(errno.ENOENT, path)
        return inode

    def folder_of(self, path):
        above, _, name = path.rpartition("/")
        return self.find(above), name

    def add(self, path, inode):
        folder, name = self.folder_of(path)
        folder.content[name] = inode
        folder.written_ns = time.time_ns()
        return 0

    def remove(self, path):
        folder, name = self.folder_of(path)
        inode = self.find(path)
        if inode.is_folder() and inode.content:
            raise OSError(errno.ENOTEMPTY, path)
        del folder.content[name]
        folder.written_ns = time.time_ns()
        return 0

    def setxattr(self, path, name, value, options, position=0):
        if path != "/" or name not in ("user.cut", "user.sync"):
            raise OSError(errno.ENOTSUP, name)
        if name == "user.sync":
            self.root.sync_all()
        else:
            self.root.cut(random.Random(int(value)) if value else None)
        return 0

    def fsync(self, path, datasync, fh):
        self.find(path).sync()
        return 0

    fsyncdir = fsync

    def create(self, path, mode):
        return self.add(path, Inode(stat.S_IFREG | stat.S_IMODE(mode), bytearray()))

    def mkdir(self, path, mode):
        return self.add(path, Inode(stat.S_IFDIR | stat.S_IMODE(mode), {}))

    def symlink(self, target, source):
        return self.add(target, Inode(stat.S_IFLNK | 0o777, source))

    def link(self, target, source):
        return self.add(target, self.find(source))

    def unlink(self, path):
        return self.remove(path)

    rmdir = unlink

    def rename(self, old, new):
        inode = self.find(old)
        folder, name = self.folder_of(new)
        if folder.content.get(name) is inode:
            return 0
        if name in folder.content:
            self.remove(new)
        self.add(new, inode)
        above, name = self.folder_of(old)
        del above.content[name]
        return 0

    def open(self, path, flags):
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        return 0

    def read(self, path, size, offset, fh):
        return bytes(self.find(path).content[offset : offset + size])

    def write(self, path, data, offset, fh):
        inode = self.find(path)
        if offset > len(inode.content):
            self.truncate(path, offset)
        inode.content[offset : offset + len(data)] = data
        inode.written_ns = time.time_ns()
        return len(data)

    def truncate(self, path, length, fh=None):
        inode = self.find(path)
        inode.content[length:] = bytes(max(0, length - len(inode.content)))
        inode.written_ns = time.time_ns()
        return 0

    def readdir(self, path, fh):
        inodes = self.find(path).content.items()
        entries = [(name, {"st_ino": i.number, "st_mode": i.mode}, 0) for name, i in inodes]
        return [(".", None, 0), ("..", None, 0), *entries]

    def readlink(self, path):
        return self.find(path).content

    def getattr(self, path, fh=None):
        inode = self.find(path)
        return {
            "st_ino": inode.number,
            "st_mode": inode.mode,
            "st_size": len(inode.content),
            "st_nlink": 1,
            "st_uid": inode.owner[0],
            "st_gid": inode.owner[1],
            "st_blocks": -(-len(inode.content) // 512),
            "st_atime": inode.read_ns,
            "st_mtime": inode.written_ns,
            "st_ctime": inode.written_ns,
        }

    def chmod(self, path, mode):
        inode = self.find(path)
        inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
        return 0

    def chown(self, path, uid, gid):
        inode = self.find(path)
        inode.owner = tuple(
            old if new == -1 else new for old, new in zip(inode.owner, (uid, gid), strict=True)
        )
        return 0

    def utimens(self, path, times=None):
        inode = self.find(path)
        inode.read_ns, inode.written_ns = times or [time.time_ns()] * 2
        return 0

    def statfs(self, path):
        blocks = dict.fromkeys(("f_blocks", "f_bfree", "f_bavail"), BLOCKS)
        return {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_namemax": 255, **blocks}


if __name__ == "__main__":
    from mfusepy import FUSE  # imported here because it needs libfuse, which the other tests do not

    # No caches of names and sizes, because a cut changes them without the kernel's knowledge.
    uncached = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    FUSE(FileSystem(), sys.argv[1], foreground=True, nothreads=True, use_ino=True, **uncached)
