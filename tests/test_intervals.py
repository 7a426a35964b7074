from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.intervals import wilson


def test_against_the_closed_form():
    """Wilson 1927: the p at which |p^ - p| is z standard errors of p."""
    z, n = 1.959963984540054, 10_000
    accuracy = pd.Series([0.9875, 0.5, 0.0, 1.0])
    centre = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    got = wilson(accuracy, n)
    np.testing.assert_allclose(got["low"], centre - half, atol=1e-12)
    np.testing.assert_allclose(got["high"], centre + half, atol=1e-12)


def test_the_reports_accuracy():
    """125 errors in 10 000."""
    low, high = wilson(pd.Series([0.9875]), 10_000).iloc[0]
    assert (round(low, 4), round(high, 4)) == (0.9851, 0.9895)


def test_not_a_number_stays_and_the_index_too():
    got = wilson(pd.Series([np.nan, 0.5], index=[7, 3]), 10)
    assert got.index.tolist() == [7, 3]
    assert got.loc[7].isna().all()
    assert got.loc[3].notna().all()


def test_an_empty_series():
    assert wilson(pd.Series([], dtype=float), 10).empty


@pytest.mark.parametrize("accuracy", [0.05, 0.5, 0.99])
def test_coverage(accuracy):
    """About 95 % of intervals hold the true value."""
    rng = np.random.default_rng(1)
    draws = pd.Series(rng.binomial(200, accuracy, 1000) / 200)
    got = wilson(draws, 200)
    assert 0.92 < ((got["low"] <= accuracy) & (accuracy <= got["high"])).mean() < 0.985
