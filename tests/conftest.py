from __future__ import annotations

import os
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer

from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.data.images import ImageData, load_splits
from study.data.sources import default_data_dir
from study.files import write_json
from study.results.history import History
from study.results.tables import StudyResults, load_study, write_tables
from tests.helpers.compared import study_content


@pytest.fixture(scope="session")
def mnist() -> tuple[ImageData, ImageData]:
    """The real splits. If they cannot be obtained the tests fail; nothing is skipped."""
    return load_splits("mnist", default_data_dir())


@pytest.fixture(scope="session")
def few_digits() -> tuple[ImageData, ImageData]:
    """As `digits`, for what is trained once and read by several tests."""
    return synthetic_digits()


@pytest.fixture
def digits() -> tuple[ImageData, ImageData]:
    """Synthetic digits, 96 and 40: each class is a bright bar at its own height, with noise."""
    return synthetic_digits()


def synthetic_digits() -> tuple[ImageData, ImageData]:
    """See `digits`."""
    rng = np.random.default_rng(0)

    def make(n: int) -> ImageData:
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 80, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 6] += 150
        return ImageData(images, labels)

    return make(96), make(40)


@pytest.fixture(scope="module")
def bucket():
    """URI of an empty bucket of an S3 server on loopback."""
    before = dict(os.environ)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="s",
        AWS_DEFAULT_REGION="us-east-1",
    )
    boto3.client("s3").create_bucket(Bucket="a-bucket")
    yield "s3://a-bucket"
    server.stop()
    os.environ.clear()
    os.environ.update(before)


# status, batch size, lr, width, validation accuracy after each epoch
TRIALS = [
    ("complete", 512, 1.0, 1.0, [0.95, 0.98, 0.985]),
    ("complete", 64, 0.5, 2.0, [0.97, 0.985, 0.99]),
    ("complete", 64, 0.3, 1.0, [0.96, 0.98, 0.985]),
    ("pruned", 64, 0.03, 0.5, [0.995]),  # the highest value, but the trial was stopped
    ("pruned", 1024, 0.1, 1.0, [0.8]),
    ("pruned", 1024, 0.2, 1.0, [0.85]),
    ("diverged", 512, 3.0, 0.5, [0.9, np.nan]),
    ("failed", 256, 1.0, 2.0, []),
    ("interrupted", 1024, 0.4, 1.0, [0.7, 0.75]),
]


def write_study(folder: Path, trials: list[tuple] = TRIALS) -> StudyResults:
    """A study with 1000 training and 200 validation images, and made-up curves."""
    rng = np.random.default_rng(0)
    rows, histories = [], {}
    for number, (status, batch_size, lr, width, accuracies) in enumerate(trials):
        trial_id = f"trial_{number:05d}"
        sizes = [min(batch_size, 1000 - at) for at in range(0, 1000, batch_size)]
        losses = [
            (rng.uniform(0.5, 1.5, len(sizes)) / (i + 1)).astype(np.float32)
            for i in range(len(accuracies))
        ]
        epochs = [
            {
                "epoch": i,
                "step": i * len(sizes),
                "examples_seen": i * 1000,
                "epoch_lr": lr * 0.7 ** (i - 1),
                "train_loss": float(np.average(losses[i - 1], weights=sizes)),
                "eval_loss": 2 * (1 - accuracy),
                "eval_accuracy": accuracy,
                "epoch_seconds": 2.0,
                "eval_seconds": 0.5,
                "epoch_ended": 1e9 + 100.0 * number + 2.0 * i,
            }
            for i, accuracy in enumerate(accuracies, 1)
        ]
        facts = {"num_params": 10, "precision": "fp32", "node": "n", "device": "a processor"}
        if epochs:
            histories[trial_id] = History(epochs, losses, sizes, facts)
        rows.append(
            {
                "trial_id": trial_id,
                "status": status,
                "model": "cnn",
                "dataset": "mnist",
                "evaluated": "validation",
                "optimizer": "adadelta",
                "epochs": 3,
                "seed": number,
                "batch_size": batch_size,
                "lr": lr,
                "gamma": 0.7,
                "width_mult": width,
                "error": "<out of memory>" if status == "failed" else None,
            }
        )
    config = SearchConfig(
        "made-up", space_to_json(DEFAULT_SPACE), num_samples=len(trials), epochs=3
    )
    write_json(folder / "study.json", study_content(config))
    write_tables(folder, rows, histories)
    return load_study(folder)


@pytest.fixture
def made_up(tmp_path) -> StudyResults:
    """A study in which every status occurs."""
    folder = tmp_path / "results" / "made-up"
    folder.mkdir(parents=True)
    return write_study(folder)


@pytest.fixture
def fruitless(tmp_path) -> StudyResults:
    """A study in which no trial has a finite result."""
    folder = tmp_path / "results" / "fruitless"
    folder.mkdir(parents=True)
    return write_study(folder, [("failed", 64, 1.0, 1.0, []), ("diverged", 32, 3.0, 1.0, [np.nan])])


@pytest.fixture(scope="module")
def without_ray():
    """Studies of `tests.helpers.simulated` run in this process."""
    from tests.helpers.simulated import leave_out_ray

    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_out_ray(monkeypatch)
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, as in a trial. With several, results may differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
