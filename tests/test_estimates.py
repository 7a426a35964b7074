import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats

from study.results.estimates import Estimate, detectable, over_seeds, over_seeds_and_images, show


def test_the_interval_over_seeds_is_scipys():
    values = np.array([0.991, 0.993, 0.990, 0.994])
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_one_seed_has_no_interval():
    assert np.isnan(over_seeds(np.array([0.99])).low)
    assert np.isnan(over_seeds_and_images(np.ones((1, 5))).low)
    assert show(over_seeds(np.array([0.99])), "{:.2%}") == "99.00% (n = 1: no interval)"


def test_mean_squares_are_those_of_an_analysis_of_variance():
    scores = np.random.default_rng(0).normal(size=(4, 6))
    rows = pd.DataFrame(
        [(s, i, scores[s, i]) for s in range(4) for i in range(6)], columns=["seed", "image", "y"]
    )
    table = sm.stats.anova_lm(smf.ols("y ~ C(seed) + C(image)", rows).fit())
    seeds, images, rest = table["sum_sq"] / table["df"]
    variance = max(seeds + images - rest, seeds, images) / 24
    freedom = (24 * variance) ** 2 / (seeds**2 / 3 + images**2 / 5 + rest**2 / 15)
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    found = over_seeds_and_images(scores)
    assert (found.low, found.high) == pytest.approx((scores.mean() - half, scores.mean() + half))


def planted(rng, n=10, m=400):
    """Scores of seeds on images, 1 if right, whose true mean is 0.9 (nearly)."""
    hardness = rng.normal(size=m)
    noise = 0.15 * rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, m))
    scale = np.sqrt(1 + 0.15**2 + 0.5**2)
    return (hardness + noise < stats.norm.ppf(0.9) * scale).astype(float)


def test_both_intervals_cover_what_they_speak_of():
    """1,000 planted samples: 95% of the intervals hold the truth, within 0.93 to 0.97."""
    rng = np.random.default_rng(1)
    repeats = 1000
    images = seeds = seeds_for_images = 0
    for _ in range(repeats):
        scores = planted(rng)
        both, one = over_seeds_and_images(scores), over_seeds(scores.mean(axis=1))
        images += both.low <= 0.9 <= both.high
        seeds_for_images += one.low <= 0.9 <= one.high
        normal = over_seeds(rng.normal(0.99, 0.001, 10))
        seeds += normal.low <= 0.99 <= normal.high
    assert 0.93 <= images / repeats <= 0.97
    assert 0.93 <= seeds / repeats <= 0.97
    assert seeds_for_images / repeats < 0.85, "an interval over seeds says nothing of new images"


def test_the_detectable_difference_is_found_in_four_of_five_samples():
    rng = np.random.default_rng(2)
    spread = rng.normal(size=10)
    spread *= 1 / np.std(spread, ddof=1)
    truth = detectable(spread)
    samples = rng.normal(truth, 1, (4000, 10))
    found = np.mean([not r.low <= 0 <= r.high for r in map(over_seeds, samples)])
    assert 0.77 < found < 0.85


def test_the_text_of_an_estimate():
    assert show(Estimate(0.98721, 0.98654, 0.98788, 3, ""), "{:.2%}") == "98.72% [98.65, 98.79]"
    assert show(Estimate(0.22, 0.17, 0.28, 3, ""), "{:+.2f} points") == (
        "+0.22 points [+0.17, +0.28]"
    )
