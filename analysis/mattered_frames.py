"""Which hyperparameters mattered in a search: buckets of their values and their importance.

Each function takes a loaded search and returns a new frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.search_frames import trial_map
from study.console.text import format_value
from study.results.tables import StudyResults, search_config
from study.results.trials import rank_trials

BUCKETS = 5  # of a range, equally wide on its own scale
GAMMA_PARTS = 3  # where gamma is one of two things that panels differ in

Distribution = Mapping[str, Any]  # in Optuna's JSON notation


def choices(distribution: Distribution) -> list[Any] | None:
    """The values that a hyperparameter is drawn from, in order; None if it is a range."""
    values = distribution["attributes"].get("choices")
    return values and (list(values) if isinstance(values[0], str) else sorted(values))


def is_log(distribution: Distribution) -> bool:
    """Whether each decade of the range is as likely."""
    attributes = distribution["attributes"]
    return attributes.get("log", False) and attributes["low"] > 0


def varied(study: StudyResults) -> dict[str, Distribution]:
    """The distribution of each hyperparameter that was drawn from several values.

    One that no trial has yet, such as momentum before the first with sgd, is left out.
    """
    trials = study.trials
    return {
        name: distribution
        for name, distribution in search_config(study).varied.items()
        if trials.empty or trials[name].notna().any()
    }


def edges(distribution: Distribution, count: int = BUCKETS) -> list[float]:
    """The `count` + 1 ends of the buckets of a range, equally wide on its own scale."""
    ends = distribution["attributes"]["low"], distribution["attributes"]["high"]
    return (np.geomspace if is_log(distribution) else np.linspace)(*ends, count + 1).tolist()


def bucket_of(values: pd.Series, distribution: Distribution, count: int = BUCKETS) -> pd.Series:
    """The number of the bucket that each value is in, from 0; -1 for a value outside or unknown.

    Args:
        values: Of one hyperparameter.
        distribution: What it was drawn from. Each choice is a bucket of its own.
        count: Number of buckets of a range.
    """
    if (known := choices(distribution)) is not None:
        codes = pd.Index(known).get_indexer(pd.Index(values))
    else:
        codes = pd.cut(
            values.astype(float), edges(distribution, count), include_lowest=True, labels=False
        ).fillna(-1)
    return pd.Series(np.asarray(codes, int), values.index)


def place(values: pd.Series, distribution: Distribution) -> pd.Series:
    """Where values are in their distribution, from 0 to 1 on its own scale, NaN if outside.

    The buckets of `bucket_of` are equally wide on it. A choice is in the middle of its bucket.
    """
    if (known := choices(distribution)) is not None:
        return (bucket_of(values, distribution).replace(-1, np.nan) + 0.5) / len(known)
    (low, high), x = edges(distribution, 1), values.astype(float)
    if is_log(distribution):
        low, high, x = np.log(low), np.log(high), x.map(np.log)
    return ((x - low) / (high - low)).round(9).where(lambda at: at.between(0, 1))


def place_ticks(distribution: Distribution) -> tuple[list[float], list[str]]:
    """Where an axis of `place` is labelled, and how: each choice, or the ends of the buckets."""
    if (known := choices(distribution)) is not None:
        at = [(i + 0.5) / len(known) for i in range(len(known))]
        return at, bucket_names(distribution)
    return np.linspace(0, 1, BUCKETS + 1).tolist(), [f"{end:.2g}" for end in edges(distribution)]


def bucket_names(distribution: Distribution, count: int = BUCKETS) -> list[str]:
    """The buckets in words: ``64``, or ``0.5 to 0.6``."""
    if (known := choices(distribution)) is not None:
        return [format_value(value) for value in known]
    ends = [f"{end:.2g}" for end in edges(distribution, count)]
    return [f"{low} to {high}" for low, high in pairwise(ends)]


def isolation(study: StudyResults) -> pd.DataFrame:
    """The best trial in each bucket of each hyperparameter.

    Returns:
        One row per hyperparameter and bucket: ``hyperparameter``, ``bucket`` (its number),
        ``values`` (in words), ``low`` and ``high`` (the ends of a range's bucket), ``tried`` (all
        trials in it), ``complete`` (those of them), and of the best trial, a complete one if
        there is any: ``best_trial``, ``best_status`` and ``error`` (a fraction).
    """
    ranked = rank_trials(study.trials[np.isfinite(study.trials["last_eval_accuracy"])])
    rows = []
    for name, distribution in varied(study).items():
        all_in, ranked_in = (bucket_of(t[name], distribution) for t in (study.trials, ranked))
        ends = [] if choices(distribution) else list(pairwise(edges(distribution)))
        for bucket, values in enumerate(bucket_names(distribution)):
            inside, best = study.trials[all_in == bucket], ranked[ranked_in == bucket].head(1)
            low, high = ends[bucket] if ends else (np.nan, np.nan)
            rows.append(
                {
                    "hyperparameter": name,
                    "bucket": bucket,
                    "values": values,
                    "low": low,
                    "high": high,
                    "tried": len(inside),
                    "complete": int((inside["status"] == "complete").sum()),
                    "best_trial": best["trial_id"].iloc[0] if len(best) else None,
                    "best_status": best["status"].iloc[0] if len(best) else None,
                    "error": 1 - best["last_eval_accuracy"].iloc[0] if len(best) else np.nan,
                }
            )
    return pd.DataFrame(rows)


def cells(study: StudyResults, x: str, y: str) -> pd.DataFrame:
    """The error in each pair of buckets of two hyperparameters, whatever the others were.

    Returns:
        One row per pair in which a trial has a finite error: ``x`` and ``y`` (numbers of the
        buckets), ``tried`` (trials in it), ``complete`` (those of them), and ``error``: the
        median of the complete trials, or of the others if none is complete (a fraction).
    """
    space, trials = varied(study), study.trials
    rows = pd.DataFrame(
        {
            "x": bucket_of(trials[x], space[x]),
            "y": bucket_of(trials[y], space[y]),
            "complete": trials["status"] == "complete",
            "error": (1 - trials["last_eval_accuracy"]).where(np.isfinite),
        }
    )
    rows = rows[(rows["x"] >= 0) & (rows["y"] >= 0)]
    by_cell = rows.groupby(["x", "y"])
    cell = by_cell.agg(tried=("complete", "size"), complete=("complete", "sum"))
    of_complete = rows[rows["complete"]].groupby(["x", "y"])["error"].median()
    cell["error"] = of_complete.reindex(cell.index).fillna(by_cell["error"].median())
    return cell.dropna(subset="error").reset_index()


def by_gamma_and_width(study: StudyResults) -> pd.DataFrame:
    """`trial_map`, with the third of gamma's range that a trial is in as ``gamma_part``.

    Without gamma in the space, ``gamma_part`` is 0; likewise ``width_part`` counts the widths.
    """
    frame, space = trial_map(study.trials), varied(study)
    for name, part in (("gamma", "gamma_part"), ("width_mult", "width_part")):
        frame[part] = bucket_of(frame[name], space[name], GAMMA_PARTS) if name in space else 0
    return frame
