from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.stability import change_point, settled_epoch, stable_epoch


@pytest.mark.parametrize("bend", [3.0, 5.5, 9.0])
def test_the_bend_of_a_broken_line_is_found(bend):
    epochs = np.arange(1, 16)
    accuracy = 0.99 + 0.01 * np.minimum(epochs - bend, 0)
    assert change_point(accuracy) == pytest.approx(bend, abs=0.05)


def slow_change_point(accuracy):
    """One least-squares fit per candidate, by its definition."""
    epochs = np.arange(1, len(accuracy) + 1)
    misfits = {}
    for at in np.arange(20, 10 * len(accuracy) + 1) / 10:
        design = np.stack([np.ones(len(epochs)), np.minimum(epochs - at, 0)], 1)
        rest = accuracy - design @ np.linalg.lstsq(design, accuracy, rcond=None)[0]
        misfits[at] = rest @ rest
    return min(misfits, key=misfits.get)


def test_all_draws_at_once_bend_where_each_alone_does():
    rng = np.random.default_rng(5)
    epochs, bends = np.arange(1, 13), rng.uniform(2, 12, (4, 5, 1))
    curves = 0.99 + 0.01 * np.minimum(epochs - bends, 0) + rng.normal(0, 0.004, (4, 5, 12))
    found = change_point(curves)
    assert found.shape == (4, 5)
    expected = [[slow_change_point(curve) for curve in row] for row in curves]
    np.testing.assert_allclose(found, expected)
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize(("accuracy", "epoch"), [([0.9], 1), ([0.9, 0.99], 2)])
def test_of_the_shortest_curves_the_first_place_is_taken(accuracy, epoch):
    assert change_point(np.array(accuracy)) == epoch


@pytest.mark.parametrize(
    ("accuracy", "epoch"),
    [([0.9, 0.98, 0.9895, 0.9901, 0.99], 3), ([0.99] * 4, 1), ([0.9, 0.99, 0.9, 0.99], 4)],
)
def test_settled_is_from_where_on_nothing_leaves_the_margin(accuracy, epoch):
    assert settled_epoch(np.array(accuracy), 0.001) == epoch


def test_the_intervals_hold_the_truth_and_narrow_with_seeds():
    rng = np.random.default_rng(1)

    def frame(n):
        rows = [
            {
                "replicate": k,
                "epoch": e,
                "accuracy": 0.98 + 0.01 * min(e - 6, 0) + rng.normal(0, 5e-3),
            }
            for k in range(n)
            for e in range(1, 16)
        ]
        return pd.DataFrame(rows)

    few, many = (stable_epoch(frame(n), np.random.default_rng(2), 0.001)[0] for n in (4, 40))
    assert few.low <= 6.5
    assert few.high >= 5.5
    assert many.high - many.low < few.high - few.low
    assert many.value == pytest.approx(6, abs=0.6)
