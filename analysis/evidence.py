"""Which results there are, and which question each answers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.errors import UserError
from study.hyperparameters import HYPERPARAMETERS
from study.questions import BATCH_SIZE, QUESTIONS, Question
from study.results import StudyResults, differs, load_predictions, load_study
from study.study_file import config_of


@dataclass(frozen=True)
class Compared:
    """A loaded comparison.

    Attributes:
        results: Its tables.
        predictions: Of its final models; empty where they were not kept.
        trials: The complete trials with a result, in the order of the arms, then of the
            replicates.
    """

    results: StudyResults
    predictions: pd.DataFrame
    trials: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        trials = self.results.trials
        measured = np.isfinite(trials["last_val_accuracy"])
        complete = trials[(trials["status"] == "complete") & measured]
        order = complete["arm"].map({arm: i for i, arm in enumerate(self.arms)})
        complete = complete.assign(_order=order).sort_values(["_order", "replicate"])
        object.__setattr__(self, "trials", complete.drop(columns="_order"))

    @property
    def arms(self) -> list[str]:
        """The arms' names, in order."""
        return list(self.config["arms"])

    @property
    def config(self) -> dict[str, Any]:
        """The comparison's configuration."""
        return self.results.study["config"]

    @property
    def images(self) -> str:
        """What is evaluated: ``test`` or ``validation``."""
        return self.results.study["data"]["split"]["evaluated"]

    @property
    def num_images(self) -> int:
        """How many images are evaluated."""
        return self.results.study["data"]["split"]["validation"]

    @property
    def num_train(self) -> int:
        """Images that are trained on where an arm does not take fewer."""
        return self.results.study["data"]["split"]["train"]

    def of_arm(self, arm: str) -> pd.DataFrame:
        """The complete trials of an arm, by replicate."""
        return self.trials[self.trials["arm"] == arm]

    def predictions_of(self, arm: str) -> pd.DataFrame:
        """The predictions of an arm's final models; empty where none were kept."""
        if self.predictions.empty:
            return self.predictions
        return self.predictions[self.predictions["trial_id"].isin(self.of_arm(arm)["trial_id"])]

    def epochs(self, columns: Iterable[str] = ("arm", "replicate", "batch_size")) -> pd.DataFrame:
        """The complete trials' epochs, with `columns` of their trials."""
        return self.results.epochs.merge(self.trials[["trial_id", *columns]], on="trial_id")


@dataclass(frozen=True)
class Evidence:
    """All results that a report is made from.

    Attributes:
        searches: Loaded searches.
        comparisons: By kind (`kind_of`).
    """

    searches: list[StudyResults]
    comparisons: dict[str, Compared]

    def get(self, question: Question) -> Compared | None:
        """The comparison that answers a built-in question, if it has a complete trial."""
        found = self.comparisons.get(question.name)
        return found if found is not None and len(found.trials) else None


def kind_of(config: dict[str, Any]) -> str:
    """Which of `QUESTIONS` a comparison's configuration answers; else a name that is none of them.

    Arms that depart from the paper's configuration in more than a question varies do not answer
    it, whatever the comparison is called. The first that fits: one of the networks alone is of
    `MODELS`, not of what a network has.
    """
    name, arms = config["name"], config["arms"]
    answered = (question.name for question in QUESTIONS.values() if question.is_asked_by(arms))
    return next(answered, f"{name} (own)" if name in QUESTIONS else name)


def arm_of(compared: Compared | None, **settings: object) -> str:
    """The arm with these hyperparameters that has complete trials; empty where there is none."""
    if compared is None:
        return ""
    trials = compared.trials
    for name, value in settings.items():
        trials = trials[trials[name] == value]
    return str(trials["arm"].iloc[0]) if len(trials) else ""


def batch_arms(evidence: Evidence, *sizes: int) -> tuple[Compared, list[str]] | None:
    """The comparison of batch sizes and its arms of `sizes`, where all are there."""
    compared = evidence.get(BATCH_SIZE)
    names = [arm_of(compared, batch_size=size) for size in sizes]
    return (compared, names) if compared is not None and all(names) else None


def folder_name(results: StudyResults) -> str:
    """The name of a results folder, as text that can be written anywhere."""
    path = results.path if results.path.name not in ("", "..") else results.path.resolve()
    return os.fsencode(path.name).decode(errors="replace")


def load_evidence(folders: Iterable[Path]) -> Evidence:
    """Load results folders, searches and comparisons alike.

    Raises:
        UserError: One is not readable, or two answer the same question.
    """
    searches: list[StudyResults] = []
    comparisons: dict[str, Compared] = {}
    seen: set[Path] = set()
    for folder in folders:
        results = load_study(folder)
        if results.trials.empty:
            raise UserError(f"{folder}: no trial has begun yet; wait, or continue it")
        if folder.resolve() in seen:
            raise UserError(f"{folder}: is given twice; give it once")
        seen.add(folder.resolve())
        if results.study["kind"] == "search":
            searches.append(results)
            continue
        kind = kind_of(results.study["config"])
        if kind in comparisons:
            raise UserError(
                f"{folder}: compares the same as {comparisons[kind].results.path} ({kind}); "
                "give one of the two"
            )
        _check_arms(results)
        kept = os.path.lexists(results.path / "predictions.parquet")
        predictions = load_predictions(results.path) if kept else pd.DataFrame()
        comparisons[kind] = Compared(results, predictions)
    return Evidence(searches, comparisons)


def _check_arms(results: StudyResults) -> None:
    """Raise `UserError` unless each trial is another replicate of an arm of the comparison."""
    trials, file = results.trials, results.path / "trials.parquet"
    known = trials["arm"].isin(list(results.study["config"]["arms"])) & trials["replicate"].notna()
    if not known.all():
        trial = trials.loc[~known, "trial_id"].iloc[0]
        raise UserError(
            f"{file}: {trial!a} is of no arm that study.json has; restore it from a copy"
        )
    if (doubled := trials.duplicated(["arm", "replicate"])).any():
        trial = trials.loc[doubled, "trial_id"].iloc[0]
        raise UserError(f"{file}: {trial!a} repeats a replicate of its arm; restore it from a copy")
    config = config_of(results.study)
    for trial in trials.to_dict("records"):
        planned = config.trial_config({"arm": trial["arm"], "replicate": 1}, 0)
        for name in ("model", *HYPERPARAMETERS):
            if differs(trial[name], expected := getattr(planned, name)):
                raise UserError(
                    f"{file}: {trial['trial_id']!a} has {name} {trial[name]}, not {expected} as "
                    "its arm in study.json; one of the two is of another study"
                )
