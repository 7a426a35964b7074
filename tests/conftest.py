from __future__ import annotations

import numpy as np
import pytest
import torch

from study.data import ImageData, default_data_dir, load_splits


@pytest.fixture(scope="session")
def mnist() -> tuple[ImageData, ImageData]:
    """The real splits. Where they cannot be had the tests fail: nothing is skipped."""
    return load_splits("mnist", default_data_dir())


@pytest.fixture
def digits() -> tuple[ImageData, ImageData]:
    """Synthetic digits, 96 and 40: each class is a bright bar at its own height, with noise."""
    rng = np.random.default_rng(0)

    def make(n: int) -> ImageData:
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 80, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 6] += 150
        return ImageData(images, labels)

    return make(96), make(40)


@pytest.fixture(autouse=True)
def one_thread():
    """As in a trial; results may differ in the last bits with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
