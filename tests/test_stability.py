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
