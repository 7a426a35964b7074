"""How good the best of k trials of a random search is: its median, with a band for all k at once.

Lourie, Cho and He, "Show Your Work with Confidence: Confidence Bands for Tuning Curves" (NAACL
2024). The band needs trials that are drawn independently and trained to the end.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.intervals import SEED
from study.results.estimates import LEVEL
from study.results.tables import StudyResults, search_config

MOST_TRIALS = 100  # the band of so many takes two seconds
TINY = 1e-9


def is_independent(study: StudyResults) -> bool:
    """Whether the search drew its trials independently and let each run to the end."""
    config = search_config(study)
    return config.sampler == "random" and not config.stops_early


def tuning_curve(study: StudyResults) -> pd.DataFrame:
    """The error of the best of k trials: its median and a 95% band.

    The first trial, which is the paper's configuration and not a draw, is left out. So are
    trials that have not ended or that failed. A diverged trial has an error of 1.

    Returns:
        One row per number of trials: ``trials``, ``median``, and ``low`` to ``high``, which
        together hold the whole curve with a probability of 95% (fractions). No row if the search
        is not one of independent draws, or has fewer than two.
    """
    drawn = study.trials.sort_values("trial_id").iloc[1:]
    diverged = drawn["status"] == "diverged"
    errors = (1 - drawn["last_eval_accuracy"]).where(~diverged, 1.0)
    errors = errors[diverged | (drawn["status"] == "complete")].dropna().head(MOST_TRIALS)
    columns = ["trials", "median", "low", "high"]
    if not is_independent(study) or len(errors) < 2:
        return pd.DataFrame(columns=columns)
    from opda.nonparametric import EmpiricalDistribution

    rng = np.random.default_rng(SEED)
    # The band is exact if no two errors are equal. Bands by highest density are hardly narrower,
    # and took five times as long for 40 trials.
    untied = errors * (1 - 2 * TINY) + TINY * rng.random(len(errors))
    few_good, as_seen, many_good = EmpiricalDistribution.confidence_bands(
        untied.to_numpy(float), LEVEL, 0.0, 1.0, generator=rng, method="ld_equal_tailed", n_jobs=1
    )
    trials = np.arange(1, len(errors) + 1)
    curves = [
        each.quantile_tuning_curve(trials, minimize=True) for each in (as_seen, many_good, few_good)
    ]
    return pd.DataFrame(dict(zip(columns, (trials, *curves), strict=True)))
