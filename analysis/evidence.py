"""Loads results folders and finds the question that each comparison answers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import comparison_frames as frames
from analysis import noise, paper, predicted
from analysis.compared import ComparedTables
from analysis.intervals import SEED
from study.config.arms import ArmsConfig
from study.config.comparison import ComparisonConfig
from study.config.hyperparameters import HYPERPARAMETERS
from study.config.questions import BATCH_SIZE, QUESTIONS, Question
from study.console.errors import UserError
from study.console.text import escape
from study.results.confirmation import Final, final
from study.results.estimates import Estimate
from study.results.predictions import load_predictions
from study.results.tables import StudyResults, load_study
from study.results.trials import differs


class Compared(ComparedTables):
    """A loaded comparison, with frames that are computed once, when they are first used.

    So a figure and a claim about the same frame show the same numbers.
    """

    @cached_property
    def loss_curves(self) -> pd.DataFrame:
        """See `comparison_frames.loss_curves`."""
        return frames.loss_curves(self)

    @cached_property
    def loss_noise(self) -> pd.DataFrame:
        """See `comparison_frames.loss_noise`."""
        return frames.loss_noise(self)

    @cached_property
    def accuracy_by_epoch(self) -> pd.DataFrame:
        """See `comparison_frames.accuracy_by_epoch`."""
        return frames.accuracy_by_epoch(self)

    @cached_property
    def to_target(self) -> pd.DataFrame:
        """See `comparison_frames.to_target`, here until `comparison_frames.TARGET`."""
        return frames.to_target(self, frames.TARGET)

    @cached_property
    def noise_scale(self) -> pd.DataFrame:
        """See `noise.noise_scale_by_epoch`."""
        return noise.noise_scale_by_epoch(self, np.random.default_rng(SEED))

    @cached_property
    def critical_batch_size(self) -> Estimate | None:
        """See `noise.critical_batch_size`, here from `to_target`."""
        return noise.critical_batch_size(self.to_target, np.random.default_rng(SEED))

    @cached_property
    def final(self) -> Final:
        """See `study.results.confirmation.final`; for the final runs of a confirmed search."""
        return final(self.results, self.predictions)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """See `predicted.calibration`, here with each trial's ``arm``."""
        table = predicted.calibration(self.predictions)
        return self.trials[["trial_id", "arm"]].merge(table, on="trial_id")


@dataclass(frozen=True)
class Evidence:
    """All results that a page is made from.

    Attributes:
        searches: The loaded searches.
        comparisons: The loaded comparisons, by kind (see `kind_of`).
    """

    searches: list[StudyResults]
    comparisons: dict[str, Compared]

    def get(self, question: Question) -> Compared | None:
        """The comparison that answers a built-in question, if it has a complete trial."""
        found = self.comparisons.get(question.name)
        return found if found is not None and len(found.trials) else None

    @property
    def judges_claims(self) -> bool:
        """Whether a comparison answers a question that the paper's claims are about."""
        return any(q.command and self.get(q) is not None for q in QUESTIONS.values())


def question_of(config: ArmsConfig) -> Question | None:
    """Which of `QUESTIONS` a comparison's configuration asks, on any images.

    Arms that depart from the paper's configuration in more than the question varies do not ask
    it, whatever the comparison is called. The first question that fits is taken. So a comparison
    of one network alone belongs to `MODELS`, not to a question about parts of a network.
    """
    if config.kind != ComparisonConfig.kind:  # the arms of the others follow from a search
        return None
    return next((q for q in QUESTIONS.values() if q.is_asked_by(config.arms)), None)


def kind_of(config: ArmsConfig) -> str:
    """The question that a comparison answers for the paper, or a name that no question has.

    The paper's claims are about its own images. Results on another data set do not judge them.
    """
    question, name = question_of(config), config.name
    if question and config.dataset == paper.DATASET:
        return question.name
    return f"{name} (own)" if name in QUESTIONS else name


def arm_of(compared: Compared | None, **settings: object) -> str:
    """The arm with these hyperparameters that has complete trials; empty if there is none."""
    if compared is None:
        return ""
    trials = compared.trials
    for name, value in settings.items():
        trials = trials[trials[name] == value]
    return str(trials["arm"].iloc[0]) if len(trials) else ""


def batch_arms(evidence: Evidence, *sizes: int) -> tuple[Compared, list[str]] | None:
    """The comparison of batch sizes and its arms of `sizes`; None if one of them is missing."""
    compared = evidence.get(BATCH_SIZE)
    names = [arm_of(compared, batch_size=size) for size in sizes]
    return (compared, names) if compared is not None and all(names) else None


def folder_name(results: StudyResults) -> str:
    """The name of a results folder, as text that can be written anywhere."""
    path = results.path if results.path.name not in ("", "..") else results.path.resolve()
    return os.fsencode(path.name).decode(errors="replace")


def load_evidence(folders: Iterable[Path]) -> Evidence:
    """Load results folders, both of searches and of comparisons.

    Raises:
        UserError: A folder is not readable, or two folders answer the same question.
    """
    searches: list[StudyResults] = []
    comparisons: dict[str, Compared] = {}
    seen: set[Path] = set()
    for folder in folders:
        results = load_study(folder)
        if results.trials.empty:
            raise UserError(f"{folder}: no trial has begun yet; wait for one, or resume the study")
        if folder.resolve() in seen:
            raise UserError(f"{folder}: is given twice; give it once")
        seen.add(folder.resolve())
        if results.study.config.is_ranked:
            searches.append(results)
            continue
        kept = os.path.lexists(results.path / "predictions.parquet")
        predictions = load_predictions(results.path) if kept else pd.DataFrame()
        compared = Compared(results, predictions)
        kind = kind_of(compared.config)
        if kind in comparisons:
            raise UserError(
                f"{folder}: compares the same as {comparisons[kind].results.path} ({kind}); "
                "give one of the two"
            )
        _check_arms(compared)
        comparisons[kind] = compared
    return Evidence(searches, comparisons)


def _check_arms(compared: Compared) -> None:
    """Raise `UserError` unless each trial is a replicate of a known arm, with its settings."""
    trials, file = compared.results.trials, compared.results.path / "trials.parquet"
    known = trials["arm"].isin(compared.arms) & trials["replicate"].notna()
    if not known.all():
        trial = trials.loc[~known, "trial_id"].iloc[0]
        raise UserError(
            f"{file}: {trial!a} belongs to no arm in study.json; restore the file from a copy"
        )
    runs = trials[trials["status"] != "failed"]  # a failed one may have been run again
    if (doubled := runs.duplicated(["arm", "replicate"])).any():
        trial = runs.loc[doubled, "trial_id"].iloc[0]
        raise UserError(
            f"{file}: {trial!a} repeats a replicate of its arm; restore the file from a copy"
        )
    for trial in trials.to_dict("records"):
        planned = compared.config.trial_config({"arm": trial["arm"], "replicate": 1}, 0)
        for name in ("model", *HYPERPARAMETERS):
            if differs(trial[name], expected := getattr(planned, name)):
                found = escape(str(trial[name]), keep="")
                raise UserError(
                    f"{file}: {trial['trial_id']!a} has {name} {found}, but its arm in "
                    f"study.json has {expected}; one of the two files is from another study"
                )
