from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.intervals import (
    bootstrap,
    equivalence_p,
    prediction_interval,
    probability_above,
    ratio_interval,
    wilson,
)
from study.results.estimates import over_seeds


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
    """125 errors in 10,000."""
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
    """About 95% of intervals hold the true value."""
    rng = np.random.default_rng(1)
    draws = pd.Series(rng.binomial(200, accuracy, 1000) / 200)
    got = wilson(draws, 200)
    assert 0.92 < ((got["low"] <= accuracy) & (accuracy <= got["high"])).mean() < 0.985


# Of replicates.


def test_mean_interval_by_hand():
    """The 97.5% quantile of t with two degrees of freedom is 4.302653."""
    e = over_seeds([1.0, 2.0, 3.0])
    assert (e.value, e.n) == (2.0, 3)
    assert (e.low, e.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_one_replicate_has_no_interval():
    for e in (over_seeds([0.98]), prediction_interval([0.98])):
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
    logs, e = over_seeds(np.log(a / b)), ratio_interval(a, b)
    assert (e.low, e.high) == pytest.approx((np.exp(logs.low), np.exp(logs.high)))
    assert e.value == pytest.approx((a / b).prod() ** 0.25)


def test_equivalence_is_the_worse_of_two_one_sided_tests():
    """t with two degrees of freedom lies below t with probability 1/2 + t / (2 sqrt(2 + t^2))."""
    t = (0.1 - 0.02) / (0.01 / 3**0.5)  # to the nearer end of the margin
    expected = 0.5 - t / (2 * (2 + t**2) ** 0.5)
    assert equivalence_p([0.01, 0.02, 0.03], 0.1) == pytest.approx(expected)
    assert equivalence_p([-0.01, -0.02, -0.03], 0.1) == pytest.approx(expected)
    assert equivalence_p([0.09, 0.11, 0.13], 0.1) > 0.5
    assert np.isnan(equivalence_p([0.01], 0.1))


@pytest.mark.filterwarnings("error")
def test_equal_differences_are_no_reason_for_a_warning():
    assert equivalence_p([0.05, 0.05], 0.1) == 0
    assert equivalence_p([0.2, 0.2], 0.1) == 1


def test_probability_above_counts_ties_half():
    assert probability_above([1, 2, 3], [2, 0]) == pytest.approx((1 + 1.5 + 2) / 6)


def test_bootstrap_of_a_mean_is_near_its_t_interval():
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 200)
    e = bootstrap(lambda chosen: x[chosen].mean(-1), len(x), np.random.default_rng(1))
    t = over_seeds(x)
    assert e.value == pytest.approx(t.value)
    assert (e.low, e.high) == pytest.approx((t.low, t.high), abs=0.05)
    again = bootstrap(lambda chosen: x[chosen].mean(-1), len(x), np.random.default_rng(1))
    assert again == e
