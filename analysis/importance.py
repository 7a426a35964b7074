"""How important each hyperparameter was for reaching a search's best trials.

PED-ANOVA (Watanabe et al., IJCAI 2023, arXiv 2304.10255) with buckets as densities: how far a
hyperparameter's distribution among the best trials is from that among all. Divided by its largest
possible value, that divergence is the share of the variance of "is among the best" that the
hyperparameter alone explains (its main effect). Unlike in Optuna's, that share is corrected for
what chance explains, which is more the more buckets there are, and it has an interval.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from analysis.intervals import RESAMPLES, SEED
from analysis.mattered_frames import bucket_of, varied
from study.results.estimates import LEVEL
from study.results.tables import StudyResults

BEST_SHARE = 0.25  # of the trials; Optuna's 10% would be four trials of 40
FEWEST_TRIALS = 30


def importance(study: StudyResults) -> pd.DataFrame:
    """The importance of each hyperparameter that was varied, the most important first.

    Complete and pruned trials are ranked by their last accuracy, diverged ones come last. A
    hyperparameter that only some optimizers have is judged among the trials that have it.

    Returns:
        One row per hyperparameter: ``hyperparameter``, ``trials`` (how many are ranked),
        ``importance`` (share of the variance of "is in the best quarter"; chance gives 0, or less
        by luck), and its 95% bootstrap interval over trials, ``low`` to ``high``. The numbers
        are NaN if fewer than `FEWEST_TRIALS` trials have a result.
    """
    ranked = ranked_trials(study)
    rng = np.random.default_rng(SEED)
    rows = []
    for name, distribution in varied(study).items():
        codes = bucket_of(ranked[name], distribution)
        has = codes >= 0
        value = low = high = np.nan
        if (has & np.isfinite(ranked["score"])).sum() >= FEWEST_TRIALS:
            value, low, high = _with_interval(codes[has].to_numpy(), rng)
        rows.append((name, int(has.sum()), value, low, high))
    return as_frame(rows)


def ranked_trials(study: StudyResults) -> pd.DataFrame:
    """The trials with a result and their ``score``, the best first; diverged ones have -inf."""
    trials = study.trials[study.trials["status"].isin(["complete", "pruned", "diverged"])]
    scores = trials["last_eval_accuracy"].where(trials["status"] != "diverged", -np.inf)
    ranked = trials.assign(score=scores).dropna(subset="score")
    return ranked.sort_values("score", ascending=False, kind="stable")


def as_frame(rows: list[tuple[str, int, float, float, float]]) -> pd.DataFrame:
    """Hyperparameter, trials, importance and the ends of its interval, most important first."""
    columns = ["hyperparameter", "trials", "importance", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def leader(frame: pd.DataFrame) -> str | None:
    """The hyperparameter whose interval is above all others'; None if the trials cannot tell.

    Args:
        frame: From `importance`.
    """
    known = frame.dropna(subset="importance")
    if known.empty or known["low"].iloc[0] <= max([0, *known["high"].iloc[1:]]):
        return None
    return cast("str", known["hyperparameter"].iloc[0])


def explained(codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The share of the variance of "is among the best" that buckets explain.

    It is adjusted for chance as epsilon squared is (Kelley, PNAS 21, 1935).

    Args:
        codes: The bucket of each trial, the best trial first: (n,).
        counts: How often each trial counts, with the same sum in all rows: (..., n).

    Returns:
        One share per row: (...).
    """
    n = int(counts.sum(-1).flat[0])
    best = int(np.ceil(BEST_SHARE * n))
    before = counts.cumsum(-1) - counts
    among_best = np.clip(best - before, 0, counts)
    in_bucket = np.eye(codes.max() + 1)[codes]
    all_in, best_in = counts @ in_bucket, among_best @ in_bucket
    squares = np.divide(best_in**2, all_in, out=np.zeros_like(best_in), where=all_in > 0).sum(-1)
    q = best / n
    eta = (squares - n * q**2) / (n * q * (1 - q))
    buckets = (all_in > 0).sum(-1)
    return 1 - (1 - eta) * (n - 1) / (n - buckets)


def _with_interval(codes: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    n = len(codes)
    value = float(explained(codes, np.ones(n, int)))
    draws = explained(codes, rng.multinomial(n, np.full(n, 1 / n), RESAMPLES))
    # A resample repeats trials, which looks like an effect: that bias is taken off.
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws - draws.mean() + value, [tail, 100 - tail])
    return value, float(low), float(high)
