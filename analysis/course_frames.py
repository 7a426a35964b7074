"""The course of a search: how many trials reached each rung, why one was stopped, the best so far.

ASHA judges a trial when it has run as many epochs as a rung has: it goes on if its accuracy is
not below the best third of what other trials reported there before it. The tables do not hold
the order of the reports. So a trial is compared with all other trials that reached its rung, as
known at the end of the search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.config.search import ASHA_GRACE_EPOCHS, ASHA_REDUCTION
from study.results.tables import StudyResults


def rungs(study: StudyResults) -> list[int]:
    """The epochs after which a trial may be stopped, as Ray's ASHA counts them."""
    config = study.study.config
    if not config.stops_early:
        return []
    logs = np.log(config.epochs / ASHA_GRACE_EPOCHS) / np.log(ASHA_REDUCTION)
    all_rungs = [ASHA_GRACE_EPOCHS * ASHA_REDUCTION**k for k in range(int(logs + 1))]
    return [rung for rung in all_rungs if rung < config.epochs]


def survival(study: StudyResults) -> pd.DataFrame:
    """How many trials reached each rung.

    Returns:
        One row per rung and batch size: ``epoch`` (the rung; the last is that of complete
        trials), ``batch_size``, ``reached`` (trials that ran this many epochs) and ``pruned``
        (those of them that were stopped there).
    """
    trials = study.trials
    rows = [
        {
            "epoch": epoch,
            "batch_size": size,
            "reached": int((own["epochs_run"] >= epoch).sum()),
            "pruned": int(((own["epochs_run"] == epoch) & (own["status"] == "pruned")).sum()),
        }
        for epoch in [*rungs(study), study.study.config.epochs]
        for size, own in trials.groupby("batch_size")
    ]
    return pd.DataFrame(rows)


def stopped(study: StudyResults) -> pd.DataFrame:
    """Why each pruned trial was stopped, those that came furthest first.

    Returns:
        One row per pruned trial: ``trial_id``, ``batch_size``, ``rung`` (its last epoch),
        ``accuracy`` there, ``cutoff`` (which the best third of the other trials reached there,
        at the end of the search), ``rank`` (1 is the best) of ``reached`` trials, and
        ``reason`` in words.
    """
    at = study.epochs.set_index(["epoch", "trial_id"])["eval_accuracy"].dropna()
    rows, judged = [], rungs(study)
    pruned = study.trials[study.trials["status"] == "pruned"]
    for trial in pruned.to_dict("records"):
        epoch, trial_id = trial["epochs_run"], trial["trial_id"]
        there = at.loc[epoch] if epoch in at.index else pd.Series(dtype=float)
        own, others = there.get(trial_id, np.nan), there.drop(trial_id, errors="ignore")
        row = {
            "trial_id": trial_id,
            "batch_size": trial["batch_size"],
            "rung": epoch,
            "accuracy": own,
            "cutoff": np.percentile(others, 100 * (1 - 1 / ASHA_REDUCTION))
            if len(others)
            else np.nan,
            "rank": 1 + int((others > own).sum()),
            "reached": 1 + len(others),
        }
        rows.append({**row, "reason": _reason(row, judged)})
    columns = ["trial_id", "batch_size", "rung", "accuracy", "cutoff", "rank", "reached", "reason"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["rung", "accuracy"], ascending=False, ignore_index=True)


def _reason(row: dict[str, Any], judged: list[int]) -> str:
    """``rung 3: 97.90% < 98.30%, rank 9 of 14``."""
    if row["rung"] not in judged or np.isnan(row["accuracy"]):
        return f"epoch {row['rung']}: not a rung of this version's rule"
    rank = f"rank {row['rank']} of {row['reached']}"
    if np.isnan(row["cutoff"]):
        return f"rung {row['rung']}: {row['accuracy']:.2%}, {rank}"
    if row["accuracy"] < row["cutoff"]:
        return f"rung {row['rung']}: {row['accuracy']:.2%} < {row['cutoff']:.2%}, {rank}"
    return (
        f"rung {row['rung']}: {row['accuracy']:.2%}, {rank}; it was below the best third when it "
        f"was judged, but is not below that of the end, {row['cutoff']:.2%}"
    )


def best_so_far(trials: pd.DataFrame) -> pd.DataFrame:
    """The lowest error of a complete trial so far, in the order in which trials were proposed.

    Returns:
        One row per trial: ``trial_id``, ``status``, ``batch_size``, ``number`` (from 1),
        ``seconds`` (of training, this trial and those before it together), ``error`` and
        ``best`` (fractions; NaN before the first complete trial).
    """
    rows = trials.sort_values("trial_id")[["trial_id", "status", "batch_size"]]
    seconds, accuracy = trials["seconds"].fillna(0), trials["last_eval_accuracy"]
    rows = rows.assign(number=np.arange(1, len(rows) + 1), error=1 - accuracy)
    rows["seconds"] = seconds[rows.index].cumsum()
    rows["best"] = rows["error"].where(rows["status"] == "complete").cummin().ffill()
    return rows.reset_index(drop=True)
