"""The course of a search: rungs, why a trial was stopped, the best so far, when each trial ran.

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
from study.results.tables import StudyResults, in_seconds

PAUSE_S = 60.0  # a trial that reports nothing for longer than this was not running


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


def timeline(study: StudyResults) -> pd.DataFrame:
    """When each trial ran, and beside which others.

    A trial that was interrupted has a row for each time it ran. Time in which no trial ran, such
    as that between two sessions, is cut out. Which slot a trial had is not recorded: each node's
    trials are put in as few rows as they need.

    Returns:
        One row per stretch: ``trial_id``, ``status``, ``batch_size``, ``node``, ``slot`` (from 0,
        those of a node together), ``start`` and ``end`` (hours since the first epoch began).
        Formats 2 to 5 do not say when an epoch ended, so their studies have no row.
    """
    epochs = study.epochs.dropna(subset=["epoch_ended", "epoch_seconds"]).sort_values("epoch")
    end = in_seconds(epochs["epoch_ended"])
    epochs = epochs.assign(end=end, start=end - epochs["epoch_seconds"])
    pause = epochs["start"] - epochs.groupby("trial_id")["end"].shift()
    epochs["stretch"] = (pause > PAUSE_S).groupby(epochs["trial_id"]).cumsum()
    by_stretch = epochs.groupby(["trial_id", "stretch"], as_index=False)
    rows = by_stretch.agg(start=("start", "min"), end=("end", "max"))
    of_trial = study.trials[["trial_id", "status", "batch_size", "node"]]
    rows = rows.merge(of_trial, on="trial_id").sort_values("start", ignore_index=True)
    idle = (rows["start"] - rows["end"].cummax().shift()).clip(lower=0)
    before = idle.where(idle > PAUSE_S, 0).cumsum()
    first = rows["start"].min()
    for name in ("start", "end"):
        rows[name] = (rows[name] - before - first) / 3600
    rows["slot"] = _slots(rows)
    return rows[["trial_id", "status", "batch_size", "node", "slot", "start", "end"]]


def _slots(rows: pd.DataFrame) -> pd.Series:
    """The slot of each stretch, in the order of `rows`: the first of its node that is free."""
    slots, used = pd.Series(0, rows.index), 0
    for _, own in rows.groupby("node", dropna=False):
        free_from: list[float] = []
        for index, start, end in own[["start", "end"]].itertuples():
            free = [slot for slot, since in enumerate(free_from) if since <= start]
            slot = free[0] if free else len(free_from)
            free_from[slot : slot + 1] = [end]
            slots[index] = used + slot
        used += len(free_from)
    return slots
