"""What the forgetful disk of the power-cut tests keeps and what it forgets."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.helpers.forgetful import mounted

pytestmark = [pytest.mark.slow, pytest.mark.root]  # and FUSE


@pytest.fixture(scope="module")
def mount(tmp_path_factory):
    with mounted(tmp_path_factory.mktemp("disk")) as disk:
        yield disk


@pytest.fixture
def disk(mount):
    """An empty forgetful disk."""
    for path in mount.path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    mount.sync()
    return mount


def sync(path):
    """Sync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_is_a_file_system(disk):
    folder = disk.path / "a" / "b"
    folder.mkdir(parents=True)
    file = folder / "file"
    file.write_bytes(b"0123456789")
    os.truncate(file, 4)
    with file.open("r+b") as opened:
        opened.seek(6)
        opened.write(b"xy")
    assert file.read_bytes() == b"0123\0\0xy"
    file.chmod(0o640)
    os.chown(file, 1, -1)
    os.utime(file, ns=(1, 2_000_000_001))
    found = file.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (0o100640, 1, os.getgid())
    assert (found.st_size, found.st_mtime_ns) == (8, 2_000_000_001)
    os.link(file, disk.path / "linked")
    assert (disk.path / "linked").samefile(file)
    (disk.path / "symlink").symlink_to("a/b/file")
    assert (disk.path / "symlink").read_bytes() == file.read_bytes()
    with pytest.raises(FileExistsError):
        (disk.path / "symlink").symlink_to("elsewhere")
    with pytest.raises(OSError, match="not empty"):
        folder.rmdir()
    folder.rename(disk.path / "moved")
    assert names(disk.path) == ["a", "linked", "moved", "symlink"]
    assert shutil.disk_usage(disk.path).free > 2**30


def test_open_files_outlive_their_names_and_are_mapped_and_locked(disk):
    with (disk.path / "file").open("w+b") as file, (disk.path / "file").open("rb") as other:
        file.write(b"content")
        file.flush()
        with mmap.mmap(other.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:] == b"content"
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(file.name)
        assert os.fstat(file.fileno()).st_nlink == 0
        assert other.read() == b"content"
    assert names(disk.path) == []


def write_whole(path, skip=None):
    """The steps that make a file's new content survive, without one of them."""
    new = path.with_name("new")
    new.write_bytes(b"new content")
    if skip != "fsync of the file":
        sync(new)
    if skip != "rename":
        new.rename(path)
    if skip != "fsync of the folder":
        sync(path.parent)


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        (None, {"file": b"new content"}),
        ("fsync of the file", {"file": b""}),
        ("rename", {"file": b"old", "new": b"new content"}),
        ("fsync of the folder", {"file": b"old"}),
    ],
)
def test_each_step_of_replacing_a_file_counts(disk, skip, left):
    file = disk.path / "file"
    file.write_bytes(b"old")
    disk.sync()
    write_whole(file, skip)
    assert (file if skip != "rename" else disk.path / "new").read_bytes() == b"new content"
    disk.cut()
    assert {name: (disk.path / name).read_bytes() for name in names(disk.path)} == left


def test_a_synced_file_without_a_synced_name_is_lost(disk):
    (disk.path / "file").write_bytes(b"content")
    sync(disk.path / "file")
    disk.cut()
    assert names(disk.path) == []


def test_a_file_in_a_folder_without_a_synced_name_is_lost(disk):
    folder = disk.path / "folder"
    folder.mkdir()
    write_whole(folder / "file")
    disk.cut()
    assert names(disk.path) == []
    folder.mkdir()
    write_whole(folder / "file")
    sync(disk.path)
    disk.cut()
    assert (folder / "file").read_bytes() == b"new content"


def test_contents_fall_back_to_the_last_sync(disk):
    file = disk.path / "file"
    file.write_bytes(b"one")
    disk.sync()
    with file.open("ab") as opened:
        opened.write(b" two")
        opened.flush()
        os.fdatasync(opened.fileno())
        opened.write(b" three")
    file.rename(disk.path / "renamed")
    assert (disk.path / "renamed").read_bytes() == b"one two three"
    disk.cut()
    assert names(disk.path) == ["file"]
    assert file.read_bytes() == b"one two"
    os.truncate(file, 0)
    disk.cut()
    assert file.read_bytes() == b"one two"


def test_removals_are_undone(disk):
    (disk.path / "folder").mkdir()
    (disk.path / "file").write_bytes(b"content")
    (disk.path / "link").symlink_to("file")
    disk.sync()
    (disk.path / "folder").rmdir()
    (disk.path / "file").unlink()
    (disk.path / "link").unlink()
    disk.cut()
    assert names(disk.path) == ["file", "folder", "link"]
    assert (disk.path / "link").read_bytes() == b"content"
    (disk.path / "file").unlink()
    sync(disk.path)
    disk.cut()
    assert names(disk.path) == ["folder", "link"]


def test_a_gentler_disk_keeps_some_of_the_rest(disk):
    """The same parts survive for the same seed, and all synced content survives always."""
    found = set()
    for seed in [*range(40), *range(40)]:
        (disk.path / "log").write_bytes(b"old")
        (disk.path / "removed").unlink(missing_ok=True)
        (disk.path / "removed").write_bytes(b"")
        (disk.path / "added").unlink(missing_ok=True)
        disk.sync()
        with (disk.path / "log").open("ab") as file:
            file.write(b"new")
        (disk.path / "removed").unlink()
        (disk.path / "added").write_bytes(b"content")
        disk.cut(seed)
        left = tuple((name, (disk.path / name).read_bytes()) for name in names(disk.path))
        found.add((seed, left))
    assert len(found) == 40
    states = [dict(left) for _, left in found]
    assert {state["log"] for state in states} == {b"old", b"oldn", b"oldne", b"oldnew"}
    assert {"removed" in state for state in states} == {True, False}
    added = {state.get("added") for state in states}
    assert {None, b"", b"content"} < added
    assert all(b"content".startswith(content or b"") for content in added)


def test_optunas_journal_survives_once_its_name_does(disk):
    path = disk.path / "optuna.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name="a study")
    sync(disk.path)
    for value in range(3):
        study.tell(study.ask(), value)
    disk.cut()
    storage = JournalStorage(JournalFileBackend(str(path)))
    values = [t.value for t in optuna.load_study(storage=storage, study_name=None).trials]
    assert values == [0, 1, 2]


def test_optunas_journal_is_lost_with_its_name(disk):
    storage = JournalStorage(JournalFileBackend(str(disk.path / "optuna.log")))
    optuna.create_study(storage=storage, study_name="a study")
    disk.cut()
    assert names(disk.path) == []
