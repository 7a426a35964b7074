"""Confidence intervals and tests, at a level of 95% unless stated otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from study.results.estimates import LEVEL, Estimate, Values, over_seeds

RESAMPLES = 2_000
SEED = 1  # for the bootstraps


PERCENT, POINTS, NATS = "{:.2%}", "{:z.2f} points", "{:.4f} nats"
TIMES, MANY_TIMES = "{:.2f} times", "{:.0f} times"


def wilson(accuracy: pd.Series, n: int | pd.Series) -> pd.DataFrame:
    """95% Wilson score intervals of accuracies.

    They cover the random choice of the images, for one trained model. They do not cover the
    random choice of the seed, or the selection of a best trial.

    Args:
        accuracy: Fractions, multiples of 1 / n. NaN stays NaN.
        n: Number of examples they were measured on: one for all, or one for each.

    Returns:
        Columns ``low`` and ``high``, with the index of `accuracy`.
    """
    low, high = proportion_confint((accuracy * n).round(), n, 1 - LEVEL, method="wilson")
    return pd.DataFrame({"low": low, "high": high})


def ratio_interval(numerator: Values, denominator: Values) -> Estimate:
    """Geometric mean and t interval of paired ratios of positive numbers."""
    logs = over_seeds(np.log(np.asarray(numerator, float) / np.asarray(denominator, float)))
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    return Estimate(value, low, high, logs.n, "95% t interval of the log ratio over seeds")


def prediction_interval(values: Values) -> Estimate:
    """Mean, and the interval that contains one further replicate with a probability of 95%."""
    x = np.asarray(values, float)
    mean, n = float(x.mean()), len(x)
    sd = x.std(ddof=1) if n > 1 else np.nan
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * sd * np.sqrt(1 + 1 / n) if n > 1 else np.nan
    return Estimate(mean, mean - half, mean + half, n, "95% prediction interval for one run")


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, rng: np.random.Generator
) -> Estimate:
    """A statistic of replicates with its percentile bootstrap interval.

    Args:
        statistic: Maps replicates' positions, with repetition, to values: (..., n) to (...).
        n: Number of replicates.
        rng: Draws the replicates.
    """
    draws = statistic(rng.integers(0, n, (RESAMPLES, n)))
    assert draws.shape == (RESAMPLES,), "one value per draw"
    tail = 100 * (1 - LEVEL) / 2
    # No interpolation: a draw may be infinite.
    low, high = np.nanpercentile(draws, [tail, 100 - tail], method="nearest")
    value = float(statistic(np.arange(n)))
    return Estimate(value, float(low), float(high), n, "95% bootstrap interval over seeds")


def equivalence_p(differences: Values, margin: float) -> float:
    """P value of two one-sided t tests (TOST) that the mean is within ``±margin``.

    Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987). A small value shows equivalence.
    """
    x = np.asarray(differences, float)
    if len(x) < 2:
        return np.nan
    with np.errstate(divide="ignore"):  # equal differences have an infinite t
        return float(DescrStatsW(x).ttost_mean(-margin, margin)[0])


def probability_above(a: Values, b: Values) -> float:
    """P(A > B) for single runs, with ties counted half: Mann-Whitney's U per pair."""
    u: Any = stats.mannwhitneyu(a, b)
    return u.statistic / (len(a) * len(b))
