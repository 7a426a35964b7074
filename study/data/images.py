"""Load the images: the training and validation splits, and the sealed test set.

`load_splits` never reads the test images. Only `open_test_set` does, and it records each opening.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from study.config.datasets import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.config.study import StudyConfig
from study.console.errors import UserError
from study.data.sources import fetch
from study.files import open_plain, sync

OPENINGS_FILE = "test_set_openings.jsonl"
SPLIT_SEED = 20161  # seed of the 50,000 / 10,000 split; part of the protocol, never tuned


@dataclass(frozen=True)
class ImageData:
    """Labelled images.

    Attributes:
        images: uint8, shape (n, 28, 28).
        labels: uint8, shape (n,), values 0 to 9.
        index: Position of each image in its file, int64, shape (n,); None: in the file's order.
    """

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


def load_training_images(dataset: str, data_dir: Path) -> ImageData:
    """All 60,000 training images, before any split.

    Missing files are fetched.

    Raises:
        UserError: No source provides the files.
    """
    raw = fetch(dataset, data_dir)
    return ImageData(_read_idx(raw / TRAIN_IMAGES), _read_idx(raw / TRAIN_LABELS))


def load_splits(
    dataset: str, data_dir: Path, num_train: int = NUM_TRAIN_EXAMPLES
) -> tuple[ImageData, ImageData]:
    """The training and the validation split, which together are the 60,000 training images.

    Both splits hold each class in the same proportion, and are the same at every call. Missing
    files are fetched.

    Args:
        dataset: One of `study.config.datasets.DATASETS`.
        data_dir: Folder of the files; missing ones are stored there.
        num_train: Size of the training split.

    Raises:
        UserError: No source provides the files.
    """
    whole = load_training_images(dataset, data_dir)
    train, validation = (
        ImageData(whole.images[index], whole.labels[index], index)
        for index in stratified_split(whole.labels, num_train, SPLIT_SEED)
    )
    return train, validation


def load_images(
    config: StudyConfig, data_dir: Path, *, record: Path | None
) -> tuple[ImageData, ImageData]:
    """What a study trains on and what it evaluates; the paper's protocol opens the test set.

    Args:
        config: The study's.
        data_dir: Folder of the files; missing ones are put there.
        record: See `open_test_set`. None records nothing: for what only repeats a record.

    Raises:
        UserError: No source provides the files, or `record` cannot be written.
    """
    if config.protocol == "split":
        return load_splits(config.dataset, data_dir, config.num_train)
    return load_training_images(config.dataset, data_dir), open_test_set(
        config.dataset,
        data_dir,
        record=record,
        reason=config.opening_reason,
    )


def openings(record: Path) -> list[str]:
    """The reasons for which the test set was opened, as `open_test_set` recorded them.

    A damaged line counts as an opening for a reason that nobody has.

    Raises:
        OSError: It cannot be read.
    """
    try:
        with open_plain(record) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except (FileNotFoundError, UserError):  # not a plain file: `open_test_set` refuses it
        return []
    return [_reason(line) for line in lines if line.strip()]


def _reason(line: str) -> str:
    try:
        return str(json.loads(line)["reason"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return line


def open_test_set(dataset: str, data_dir: Path, *, record: Path | None, reason: str) -> ImageData:
    """The sealed 10,000 test images; each opening is appended to `record`.

    What is continued opens them for the same reason again, which counts as the same opening.

    Args:
        dataset: One of `study.config.datasets.DATASETS`.
        data_dir: Folder of the files.
        record: A JSON-lines file that keeps the openings. None if a trial is repeated, whose own
            opening is on record: nothing new is measured.
        reason: Who opens the test set, and what for.

    Raises:
        UserError: No source provides the files, or `record` cannot be read or written.
    """
    raw = fetch(dataset, data_dir)
    opening = {"time": datetime.now(UTC).isoformat(), "dataset": dataset, "reason": reason}
    try:
        if record is not None and reason not in openings(record):
            _append_line(record, json.dumps(opening))
    except OSError as error:
        link = error.errno == errno.ELOOP
        why = "it is a symbolic link" if link else error.strerror or str(error)
        raise UserError(
            f"{record}: cannot record the opening of the test set ({why}); move this file away "
            "or make it writable"
        ) from None
    return ImageData(_read_idx(raw / TEST_IMAGES), _read_idx(raw / TEST_LABELS))


def _append_line(path: Path, line: str) -> None:
    """Append `line` durably. Does not follow a symbolic link or wait for a pipe's reader."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags, 0o666)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    sync(path.parent)  # the file may be new


def stratified_split(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sorted index arrays with equal class proportions (within one example).

    Args:
        labels: Shape (n,).
        size: Length of the first array.
        seed: Seed of the draw within each class.
    """
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    exact = np.array([len(c) for c in by_class]) * size / len(labels)
    take = np.floor(exact).astype(int)
    # Largest remainder: the classes that lost most by rounding get the rest.
    take[np.argsort(take - exact, kind="stable")[: size - take.sum()]] += 1
    first = np.sort(np.concatenate([c[:n] for c, n in zip(by_class, take, strict=True)]))
    second = np.sort(np.concatenate([c[n:] for c, n in zip(by_class, take, strict=True)]))
    return first, second


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes as an array. Format: yann.lecun.com/exdb/mnist."""
    content = path.read_bytes()
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
