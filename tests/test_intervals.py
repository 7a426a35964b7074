from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from analysis.intervals import (
    bootstrap,
    equivalence_p,
    mean_interval,
    prediction_interval,
    probability_above,
    ratio_interval,
    wilson,
)


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


# Of replicates.

VALUES = np.array([0.981, 0.984, 0.979, 0.986, 0.983, 0.980])


def test_mean_interval_against_statsmodels():
    e = mean_interval(VALUES)
    assert (e.low, e.high) == pytest.approx(DescrStatsW(VALUES).tconfint_mean())
    assert (e.value, e.n) == (pytest.approx(VALUES.mean()), 6)


def test_one_replicate_has_no_interval():
    for e in (mean_interval([0.98]), prediction_interval([0.98])):
        assert e.value == 0.98
        assert np.isnan(e.low)


def test_prediction_interval_covers_one_further_run():
    rng = np.random.default_rng(1)
    hits = [
        (e := prediction_interval(x[:8])).low <= x[8] <= e.high for x in rng.normal(size=(2000, 9))
    ]
    assert 0.935 < np.mean(hits) < 0.965


def test_ratio_interval_is_the_exponential_of_the_log_ratios_interval():
    a, b = np.array([2.0, 4.2, 1.9, 8.0]), np.array([1.0, 2.0, 1.0, 4.0])
    low, high = np.exp(DescrStatsW(np.log(a / b)).tconfint_mean())
    e = ratio_interval(a, b)
    assert (e.low, e.high) == pytest.approx((low, high))
    assert e.value == pytest.approx((a / b).prod() ** 0.25)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.08, 0.2])
def test_equivalence_against_statsmodels(shift):
    a = 100 * VALUES
    b = a + shift + np.array([0.01, -0.02, 0.0, 0.02, -0.01, 0.0])
    p, _, _ = ttost_paired(a, b, -0.1, 0.1)
    assert equivalence_p(a - b, 0.1) == pytest.approx(p)


def test_probability_above_is_mann_whitneys_u():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 9), rng.integers(0, 6, 7)  # with ties
    u = mannwhitneyu(a, b).statistic
    assert probability_above(a, b) == pytest.approx(u / 63)


def test_bootstrap_of_a_mean_is_near_its_t_interval():
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 200)
    e = bootstrap(lambda chosen: x[chosen].mean(-1), len(x), np.random.default_rng(1))
    t = mean_interval(x)
    assert e.value == pytest.approx(t.value)
    assert (e.low, e.high) == pytest.approx((t.low, t.high), abs=0.05)
    again = bootstrap(lambda chosen: x[chosen].mean(-1), len(x), np.random.default_rng(1))
    assert again == e
