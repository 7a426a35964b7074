"""Computes the frames of a search: loss and accuracy curves, trials by batch size, best trials.

Each function takes tables of `study.results.tables` and returns a new one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.intervals import wilson
from study.config.hyperparameters import HYPERPARAMETERS
from study.results.shrinkage import seed_noise, shrink
from study.results.tables import STATUSES, StudyResults, search_config
from study.results.trials import complete_trials, have_papers_settings, rank_trials

WINDOWS = 60  # per loss curve, equally wide on a logarithmic axis


def best_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trial of each batch size, smallest batch first.

    The best trial has the highest validation accuracy after its last epoch. A trial that is not
    complete counts only if its batch size has no complete one. Trials without a finite result
    are left out.
    """
    measured = trials[np.isfinite(trials["last_eval_accuracy"])]
    return rank_trials(measured).drop_duplicates("batch_size").sort_values("batch_size")


def loss_by_step(steps: pd.DataFrame, trials: pd.DataFrame, windows: int = WINDOWS) -> pd.DataFrame:
    """Training loss along the steps, in windows that widen with the step.

    Args:
        steps: ``steps`` of a study.
        trials: The trials to include.
        windows: Maximum number of windows per trial.

    Returns:
        One row per trial and window: trial_id, batch_size, ``step`` (the window's last), ``loss``
        (mean over its examples), ``low`` and ``high`` (10th and 90th percentile of its step
        losses: their spread, not an uncertainty) and ``num_steps``.
    """
    rows = steps.merge(trials[["trial_id", "batch_size"]], on="trial_id")
    last = rows.groupby("trial_id")["step"].transform("max")
    # Window k of K ends at last^(k/K). The first windows of a log axis hold one step or none.
    rows["window"] = np.ceil(windows * np.log(rows["step"]) / np.log(last.clip(lower=2)) - 1e-9)
    rows["weighted"] = rows["loss"] * rows["num_examples"]
    groups = rows.groupby(["trial_id", "batch_size", "window"])
    result = pd.DataFrame(
        {
            "step": groups["step"].max(),
            # A window with a non-finite loss has no mean.
            "loss": groups["weighted"].agg(lambda x: x.sum(skipna=False))
            / groups["num_examples"].sum(),
            "low": groups["loss"].quantile(0.1),
            "high": groups["loss"].quantile(0.9),
            "num_steps": groups.size(),
        }
    )
    return result.reset_index().drop(columns="window").sort_values(["batch_size", "step"])


def loss_by_epoch(epochs: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Loss after each epoch on both splits.

    Returns:
        One row per trial, epoch and ``split`` (training, validation), with ``loss``. The training
        loss is the mean over the epoch, while the weights change and dropout acts.
    """
    rows = epochs.merge(trials[["trial_id", "batch_size"]], on="trial_id")
    names = {"train_loss": "training", "eval_loss": "validation"}
    return (
        rows.rename(columns=names)
        .melt(
            id_vars=["trial_id", "batch_size", "epoch"],
            value_vars=list(names.values()),
            var_name="split",
            value_name="loss",
        )
        .sort_values(["batch_size", "trial_id", "split", "epoch"], ignore_index=True)
    )


def accuracy_by_epoch(
    epochs: pd.DataFrame, trials: pd.DataFrame, num_validation: int
) -> pd.DataFrame:
    """Validation accuracy after each epoch of all trials.

    Returns:
        One row per trial and epoch: trial_id, batch_size, epoch, ``accuracy``, its 95% Wilson
        interval ``low`` to ``high``, and ``best``: whether the trial is its batch size's best.
    """
    rows = epochs.merge(trials[["trial_id", "batch_size"]], on="trial_id")
    rows = rows.rename(columns={"eval_accuracy": "accuracy"})
    rows = rows[["trial_id", "batch_size", "epoch", "accuracy"]]
    rows["best"] = rows["trial_id"].isin(best_trials(trials)["trial_id"])
    return rows.join(wilson(rows["accuracy"], num_validation)).sort_values(
        ["batch_size", "trial_id", "epoch"], ignore_index=True
    )


def trial_map(trials: pd.DataFrame) -> pd.DataFrame:
    """Every trial: its hyperparameters, its status and its last validation error.

    Returns:
        One row per trial, with ``error`` (a fraction) and ``best``: whether it is the most
        accurate complete trial.
    """
    known = [n for n, each in HYPERPARAMETERS.items() if each.space or trials[n].notna().any()]
    rows = trials[["trial_id", "status", *known, "epochs_run"]].copy()
    rows["error"] = 1 - trials["last_eval_accuracy"]
    rows["best"] = rows["trial_id"].isin(complete_trials(trials)["trial_id"].head(1))
    return rows


def shrunk(study: StudyResults) -> pd.DataFrame:
    """What to expect of each complete trial.

    Returns:
        The rows of `study.results.shrinkage.shrink`, each with the columns of ``trials`` and
        ``paper``: whether its hyperparameters are the paper's.
    """
    trials = study.trials
    frame = shrink(trials, seed_noise(trials).sd).merge(trials, on="trial_id", how="left")
    return frame.assign(paper=have_papers_settings(frame))


def searched(study: StudyResults) -> list[str]:
    """The hyperparameters besides the batch size that a search varied or that an option fixed."""
    space = search_config(study).space
    return [name for name in HYPERPARAMETERS if name in space and name != "batch_size"]


def summary_by_batch_size(study: StudyResults) -> pd.DataFrame:
    """What a search tried at each batch size, and the best trial of each.

    Returns:
        One row per batch size: ``trials`` (all of them), the count of each status, and the best
        trial's id, status, other hyperparameters, epochs, accuracy with its 95% Wilson
        interval (``low``, ``high``), loss and seconds.
    """
    trials, num_validation = study.trials, study.study.num_evaluated
    counts = trials.groupby("batch_size")["status"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=list(STATUSES), fill_value=0)
    counts.insert(0, "trials", counts.sum(axis=1))
    best = best_trials(trials).set_index("batch_size")
    columns = {
        "trial_id": "best_trial",
        "status": "best_status",
        **{name: name for name in searched(study)},
        "epochs_run": "epochs_run",
        "last_eval_accuracy": "accuracy",
        "last_eval_loss": "loss",
        "seconds": "seconds",
    }
    best = best[list(columns)].rename(columns=columns)
    best = best.join(wilson(best["accuracy"], num_validation))
    summary = counts.astype("int64").join(best).reset_index()
    summary.columns.name = None
    return summary
