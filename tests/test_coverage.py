"""How often the intervals of final runs hold the truth, on planted scores of seeds on images.

`tests/test_estimates.py` shows it for ten seeds at an accuracy of 90%. Here it is near 99%, with
few seeds, and for the paired gain. The planted scores are like those of the committed comparison
of batch sizes: ten seeds on 10,000 images differ with an sd of 0.06 to 0.08 points, 2% to 2.5% of
the images are wrong for some seed, 0.5% for all.

The intervals hold the truth in 94% to 97% of 1,000 samples. Of three seeds, that of the gain over
seeds and images holds it in about 97%. That is a little too often, so it is a little too wide.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from study.results.estimates import over_seeds, over_seeds_and_images

SAMPLES = 1000
ACCURACY = (0.9884, 0.9862)  # of batch size 64 and of the paper's
OWN, SEED, RUN = 0.2, 0.006, 0.2  # sds relative to that of how hard the images are


class Planted:
    """Two configurations whose runs get images right by chance.

    A run is right if how hard the image is, for both configurations and for its own, what the
    seed does to all images and what the run does to this one stay below a cut together.
    """

    def __init__(self, rng, seeds, images, accuracy):
        hard = rng.standard_normal(images) + OWN * rng.standard_normal((2, images))
        skill = SEED * (rng.standard_normal(seeds) + rng.standard_normal((2, seeds)))
        cut = ndtri(np.array(accuracy)) * (1 + OWN**2 + 2 * SEED**2 + RUN**2) ** 0.5
        chance = ndtr((cut[:, None, None] - hard[:, None] - skill[:, :, None]) / RUN)
        self.right = (rng.random(chance.shape) < chance).astype(float)
        of_images = ndtr((cut[:, None] - hard) / (RUN**2 + 2 * SEED**2) ** 0.5)
        self.here = of_images.mean(axis=1)  # the true accuracies on these images


def holds(interval, truth):
    return interval.low <= truth <= interval.high


def coverage(seeds, images, accuracy=ACCURACY):
    """The share of samples in which each interval holds what it speaks of."""
    rng = np.random.default_rng(seeds)
    gain = accuracy[0] - accuracy[1]
    held = {"accuracy": [], "accuracy, images": [], "gain": [], "gain, images": []}
    for _ in range(SAMPLES):
        sample = Planted(rng, seeds, images, accuracy)
        right, difference = sample.right[0], sample.right[0] - sample.right[1]
        here, gain_here = sample.here[0], sample.here[0] - sample.here[1]
        held["accuracy"].append(holds(over_seeds(right.mean(axis=1)), here))
        held["accuracy, images"].append(holds(over_seeds_and_images(right), accuracy[0]))
        held["gain"].append(holds(over_seeds(difference.mean(axis=1)), gain_here))
        held["gain, images"].append(holds(over_seeds_and_images(difference), gain))
    return {name: float(np.mean(values)) for name, values in held.items()}


def test_the_planted_scores_are_like_the_committed_ones():
    rng = np.random.default_rng(1)
    samples = [Planted(rng, 10, 10_000, ACCURACY).right[0] for _ in range(20)]
    sd = 100 * np.mean([right.mean(axis=1).std(ddof=1) for right in samples])
    by_image = np.array([right.mean(axis=0) for right in samples])
    assert np.mean([right.mean() for right in samples]) == pytest.approx(0.9884, abs=0.001)
    assert 0.05 < sd < 0.08
    assert 0.02 < (by_image < 1).mean() < 0.027
    assert 0.004 < (by_image == 0).mean() < 0.006


@pytest.mark.parametrize(
    ("seeds", "images"),
    [
        (3, 2000),
        (5, 2000),
        (10, 2000),
        pytest.param(3, 10_000, marks=pytest.mark.slow),
        pytest.param(10, 10_000, marks=pytest.mark.slow),
    ],
)
def test_the_intervals_of_accuracy_and_gain_hold_the_truth(seeds, images):
    found = coverage(seeds, images)
    assert min(found.values()) >= 0.93, found
    # With few seeds an interval may be a little too wide, see above.
    assert max(found.values()) <= (0.97 if seeds == 10 else 0.98), found


def test_a_configuration_gains_nothing_over_one_as_good():
    """The interval that speaks of new images leaves out a gain of 0 in 5% of samples or fewer."""
    found = coverage(10, 2000, (0.99, 0.99))
    assert 0.93 <= found["gain, images"] <= 0.97, found
