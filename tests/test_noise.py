"""The noise scale against exact per-example gradients and curves with a known answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import noise
from study.training import noise_scale
from tests.helpers.compared import NUM_TRAIN, write_comparison


def test_the_batch_sizes_are_those_that_are_measured():
    assert (noise.SMALL_BATCH, noise.BIG_BATCH) == (noise_scale.SMALL_BATCH, noise_scale.BIG_BATCH)


def test_the_estimate_is_unbiased_for_gradients_that_are_known(monkeypatch):
    """Gradients of batches from 600 examples, drawn without replacement as in training."""
    monkeypatch.setattr(noise, "SMALL_BATCH", 4)
    monkeypatch.setattr(noise, "BIG_BATCH", 120)
    rng = np.random.default_rng(0)
    each = rng.normal(0.1, 1, (600, 20))
    trace = ((each - each.mean(0)) ** 2).sum() / 599
    squared = (each.mean(0) ** 2).sum()
    small, big = [], []
    for _ in range(4000):
        drawn = each[rng.choice(600, 120, replace=False)]
        small.append((drawn.reshape(30, 4, -1).mean(1) ** 2).sum(1).mean())
        big.append((drawn.mean(0) ** 2).sum())
    got_trace, got_squared = noise.gradient_moments(np.array(small), np.array(big), 600)
    error = np.std(got_squared) / np.sqrt(len(small))
    assert got_trace.mean() == pytest.approx(trace, rel=0.01)
    assert got_squared.mean() == pytest.approx(squared, abs=4 * error)
    assert abs(got_squared.mean() - trace / 600 - squared) > 4 * error  # uncorrected: biased


def test_by_epoch_is_the_ratio_of_the_means(tmp_path):
    compared = write_comparison(tmp_path / "c", {"64": {"batch_size": 64}, "512": {}})
    scale = noise.noise_scale_by_epoch(compared, np.random.default_rng(1))
    assert len(scale) == 12
    # Every replicate has tr(Sigma) = 50 and |G|^2 = 0.05, corrected for sampling from few examples.
    assert scale["noise_scale"].to_numpy() == pytest.approx(50 / (0.05 + 50 / NUM_TRAIN))
    assert (scale["n"] == 4).all()


def test_a_gradient_lost_in_noise_has_no_finite_scale():
    e = noise.ratio_of_means(
        np.ones(5), np.array([-1.0, 0.5, -1, 0.2, 0.1]), np.random.default_rng(1)
    )
    assert e.value == np.inf


def reached(critical, sizes=(32, 64, 512), n=5, scatter=0.0):
    rng = np.random.default_rng(0)
    rows = [
        {
            "replicate": k,
            "batch_size": b,
            "step": 200 * (1 + critical / b) * np.exp(scatter * rng.normal()),
        }
        for k in range(n)
        for b in sizes
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("critical", [50, 900, 8000])
def test_the_critical_batch_size_of_a_hyperbola_is_found(critical):
    e = noise.critical_batch_size(reached(critical), np.random.default_rng(1))
    assert e is not None
    assert e.value == pytest.approx(critical, rel=1e-6)


def test_with_scatter_the_interval_holds_it():
    e = noise.critical_batch_size(reached(900, n=10, scatter=0.05), np.random.default_rng(1))
    assert e is not None
    assert e.low < 900 < e.high


def test_two_batch_sizes_are_too_few():
    assert noise.critical_batch_size(reached(900, sizes=(32, 64)), np.random.default_rng(1)) is None
