"""What a sample of runs says of runs not made: of new seeds, and of new seeds and new images.

All intervals are two-sided, at 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

Values = Sequence[float] | np.ndarray | pd.Series

LEVEL = 0.95
POWER = 0.8
OVER_SEEDS = "95% t interval over seeds"
OVER_BOTH = "95% interval over seeds and images (crossed random effects)"


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        n: Number of independent replicates (or images) behind it.
        kind: What kind of interval it is.
    """

    value: float
    low: float
    high: float
    n: int
    kind: str


def show(e: Estimate, template: str) -> str:
    """E.g. ``98.72% [98.65, 98.79]``. `template` formats the number and its unit."""
    number = template.format(e.value)
    if np.isnan(e.low):
        return f"{number} (n = {e.n}: no interval)"
    ends = (template.format(x).partition(" ")[0].removesuffix("%") for x in (e.low, e.high))
    return f"{number} [{', '.join(ends)}]"


def over_seeds(values: Values) -> Estimate:
    """Mean and t interval of independent replicates. A single replicate has no interval.

    Without any the mean is not a number.

    Args:
        values: One per seed, or one paired difference per seed.
    """
    x = np.asarray(values, float)
    low, high = DescrStatsW(x).tconfint_mean(1 - LEVEL) if len(x) > 1 else (np.nan, np.nan)
    mean = float(x.mean()) if len(x) else np.nan
    return Estimate(mean, low, high, len(x), OVER_SEEDS)


def over_seeds_and_images(scores: np.ndarray) -> Estimate:
    """Mean and interval if both seeds and images are a sample.

    Two-way random effects with one score per cell. With the mean squares of seeds, images and
    the rest, the mean's variance is (MS_seeds + MS_images - MS_rest) / (n m); its degrees of
    freedom are Satterthwaite's (Biometrics Bulletin 2, 1946).

    Args:
        scores: Of each seed on each image, or paired differences of them, shape (n, m).
    """
    n, m = scores.shape
    mean = float(scores.mean())
    if n < 2 or m < 2:
        return Estimate(mean, np.nan, np.nan, n, OVER_BOTH)
    by_seed, by_image = scores.mean(axis=1), scores.mean(axis=0)
    rest = scores - by_seed[:, None] - by_image + mean
    seeds = m * float(np.var(by_seed, ddof=1))
    images = n * float(np.var(by_image, ddof=1))
    within = float((rest**2).sum()) / ((n - 1) * (m - 1))
    # The difference may come out below what either sample alone gives: then that counts.
    total = max(seeds + images - within, seeds, images)
    if total == 0:
        return Estimate(mean, mean, mean, n, OVER_BOTH)
    spread = seeds**2 / (n - 1) + images**2 / (m - 1) + within**2 / ((n - 1) * (m - 1))
    freedom = total**2 / spread
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(total / (n * m))
    return Estimate(mean, float(mean - half), float(mean + half), n, OVER_BOTH)


def detectable(differences: np.ndarray) -> float:
    """The true mean difference that a paired t test of so many pairs finds in 80% of cases.

    Args:
        differences: Paired, shape (n,), n above 1: for their standard deviation.
    """
    n = len(differences)
    sd = float(np.std(differences, ddof=1))
    quantiles = stats.t.ppf((1 + LEVEL) / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    return float(quantiles * sd / np.sqrt(n))
