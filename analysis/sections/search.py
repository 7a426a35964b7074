"""The section of a search: its best trials, its trials by batch size, its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis import search_frames
from analysis.parts import UNKNOWN, Exhibit, Section, Table, known, renamed, single
from analysis.plots import search as plots
from analysis.sections import answer
from study.config.hyperparameters import HYPERPARAMETERS
from study.console.text import format_value
from study.results.health.checks import health_of
from study.results.tables import StudyResults, search_config

BEST_SHOWN = 10


def make_section(study: StudyResults, prefix: str) -> Section:
    """The section of a search.

    Args:
        study: The search.
        prefix: Begins the names of its figures and tables. Empty if the page is about nothing
            else: then its answer is at the top of the page, and not here.
    """
    config, trials = search_config(study), study.trials
    counts = ", ".join(f"{v} {k}" for k, v in trials["status"].value_counts().items())
    optimizers = sorted(trials["optimizer"].unique())
    facts = (
        f"{config.model} on {config.dataset}: {len(trials)} of {config.num_samples} "
        f"trials ({counts}). Epochs per trial: at most {config.epochs}. Training time: "
        f"{trials['seconds'].sum() / 3600:.2f} trial-hours. Sampler "
        f"{config.sampler}, scheduler {config.scheduler}, optimizer {', '.join(optimizers)}."
    )
    text, made = [answer.explanation(study), facts], of_search(study)
    if prefix:
        text = [answer.sentence(study), *text]
        made = [*([picture] if (picture := answer.picture(study)) else []), *made]
    tables = [make(study, prefix) for make in (_by_batch_size, _best_trials, _lost_trials)]
    return Section(
        f"{prefix}search",
        f"Search: {config.name}" if prefix else "The search",
        [paragraph for paragraph in text if paragraph],
        renamed(made, prefix),
        [table for table in tables if len(table.frame)],
        health_of(study),
    )


def of_search(study: StudyResults) -> list[Exhibit]:
    """The figures of a search."""
    trials, n = study.trials, study.study.num_evaluated
    best = search_frames.best_trials(trials)
    names = search_frames.searched(study)
    labels = [HYPERPARAMETERS[name].label for name in names]
    which = (
        "the best trial of each batch size (one seed each), with its own hyperparameters "
        f"({', '.join(labels)})"
    )
    hidden = [HYPERPARAMETERS[name].label for name in names if name not in ("lr", "width_mult")]
    not_shown = f" Not shown: {', '.join(hidden)}." if hidden else ""

    def exhibit(
        name: str, title: str, caption: str, frame: pd.DataFrame, plot: Callable[..., Any]
    ) -> Exhibit:
        return Exhibit(name, title, caption, frame, single(plot, frame))

    return [
        exhibit(
            "trial_map",
            "All trials",
            f"All {len(trials)} trials by learning rate and batch size. Each batch size has one "
            "lane per width. The colour is the validation error after the trial's last epoch. "
            "A pruned trial ran for fewer epochs than a complete one, so its error is that of an "
            f"earlier epoch. Red: no finite result.{not_shown}",
            search_frames.trial_map(trials),
            plots.plot_trial_map,
        ),
        exhibit(
            "accuracy_by_epoch",
            "Accuracy by epoch",
            f"Validation accuracy after each epoch. Coloured: {which}. Grey: the other trials. "
            f"Bars at the end: 95% Wilson intervals (n = {n:,} validation images). They do not "
            "cover the random choice of the seed, or the selection as the best trial.",
            search_frames.accuracy_by_epoch(study.epochs, trials, n),
            plots.plot_accuracy_by_epoch,
        ),
        exhibit(
            "loss_by_epoch",
            "Loss by epoch",
            f"Losses of {which}. Training loss is the mean over the epoch, while dropout acts and "
            "the weights still change. Validation loss is measured after the epoch, without "
            "dropout. So the training loss can be the higher one.",
            search_frames.loss_by_epoch(study.epochs, best),
            plots.plot_loss_by_epoch,
        ),
        exhibit(
            "loss_by_step",
            "Loss by step",
            f"Training loss of {which}. Line: mean over windows of steps that are equally wide on "
            "this axis. Band: 10th to 90th percentile of the single steps' losses in a window. "
            "It is their spread, not an uncertainty. A step of a larger batch sees more images.",
            search_frames.loss_by_step(study.steps, best),
            plots.plot_loss_by_step,
        ),
    ]


def _hyperparameters(study: StudyResults, rows: pd.DataFrame) -> dict[str, list[str]]:
    """What the search varied besides the batch size: its values as text, by header."""
    return {
        HYPERPARAMETERS[name].label: known(rows[name], format_value)
        for name in search_frames.searched(study)
    }


def _by_batch_size(study: StudyResults, prefix: str) -> Table:
    n = study.study.num_evaluated
    summary = search_frames.summary_by_batch_size(study)
    return Table(
        f"{prefix}by_batch_size",
        f"Results by batch size. The Wilson intervals (n = {n:,} validation images) are for the "
        "one trained model. The batch sizes got unequal numbers of trials and unequal tuning, and "
        "each best trial is one seed. If intervals overlap, this study cannot distinguish the "
        "batch sizes. If they do not, that is no proof of a difference.",
        summary,
        pd.DataFrame(
            {
                "batch size": summary["batch_size"].astype(str),
                **{c: summary[c].astype(str) for c in ("trials", "complete", "pruned")},
                "lost": (summary["diverged"] + summary["failed"]).astype(str),
                "best accuracy": known(summary["accuracy"], "{:.2%}".format),
                "95% interval": [
                    f"[{100 * low:.2f}, {100 * high:.2f}]" if pd.notna(low) else UNKNOWN
                    for low, high in zip(summary["low"], summary["high"], strict=True)
                ],
                "loss": known(summary["loss"], "{:.4f}".format),
                **_hyperparameters(study, summary),
                "trial": known(summary["best_trial"]),
            }
        ),
    )


def _best_trials(study: StudyResults, prefix: str) -> Table:
    n = study.study.num_evaluated
    best = search_frames.shrunk(study).head(BEST_SHOWN)
    return Table(
        f"{prefix}best_trials",
        f"Best complete trials by validation accuracy after the last epoch (n = {n:,} images, one "
        "seed). Expected: from a new seed, on the same images. P(best): the probability that no "
        "other complete trial is better.",
        best,
        pd.DataFrame(
            {
                "trial": best["trial_id"],
                "accuracy": known(best["accuracy"], "{:.2%}".format),
                "expected": known(best["expected"], "{:.2%}".format),
                "P(best)": known(best["p_best"], "{:.2f}".format),
                "loss": known(best["last_eval_loss"], "{:.4f}".format),
                "batch size": best["batch_size"].astype(str),
                **_hyperparameters(study, best),
                "epochs": known(best["epochs_run"]),
                "seconds": known(best["seconds"], "{:.0f}".format),
            }
        ),
    )


def _lost_trials(study: StudyResults, prefix: str) -> Table:
    lost = study.trials[study.trials["status"].isin(["diverged", "failed"])]
    return Table(
        f"{prefix}lost_trials",
        "Trials that diverged or failed.",
        lost,
        pd.DataFrame(
            {
                "trial": lost["trial_id"],
                "status": lost["status"],
                "batch size": lost["batch_size"].astype(str),
                **_hyperparameters(study, lost),
                "reason": known(lost["error"]),
            }
        ),
    )
