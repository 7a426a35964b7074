"""The Kalman smoother against the recursion by hand and a known random walk."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.smoothing import local_level, loss_level


def walk(n=4000, level_sd=0.02, noise_sd=0.3, seed=0):
    rng = np.random.default_rng(seed)
    level = 2 + np.cumsum(rng.normal(0, level_sd, n))
    return level, level + rng.normal(0, noise_sd, n)


def test_variances_are_found():
    _, seen = walk()
    found = local_level(seen)
    assert found.level_sd == pytest.approx(0.02, rel=0.25)
    assert found.noise_sd == pytest.approx(0.3, rel=0.05)


def test_at_the_last_step_the_level_is_that_of_the_textbooks_filter():
    """Durbin & Koopman 2012, equations 2.15, from a diffuse start."""
    _, seen = walk(200)
    found = local_level(seen)
    noise, step = found.noise_sd**2, found.level_sd**2
    level, p = 0.0, 1e9
    for y in seen:
        gain = p / (p + noise)
        level, p = level + gain * (y - level), p * (1 - gain) + step
    assert found.smoothed[-1] == pytest.approx(level, rel=1e-6)


def test_the_smoother_is_nearer_to_the_truth_than_the_losses():
    level, seen = walk()
    found = local_level(seen)

    def far(x):
        return np.sqrt(np.mean((x - level) ** 2))

    assert far(found.smoothed) < 0.5 * far(seen)


def test_the_first_epoch_does_not_decide_the_later_variances():
    _, later = walk(1500, level_sd=0.002, noise_sd=0.1)
    first = np.geomspace(20, 2, 100)
    whole = loss_level(np.concatenate([first, later]), 100)
    assert whole.level_sd == pytest.approx(local_level(later).level_sd)
    assert whole.level_sd < 0.5 * local_level(np.concatenate([first, later])).level_sd
    assert len(whole.smoothed) == 1600
    assert whole.smoothed[0] == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("losses", [[1.0, 2.0], [1.0, np.nan, 2.0, 1.0, 1.0, 1.0]])
def test_too_few_or_lost_losses_stay_as_they_are(losses):
    found = local_level(np.array(losses))
    np.testing.assert_array_equal(found.smoothed, losses)
    assert np.isnan(found.noise_sd)
