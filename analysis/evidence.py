"""Which results there are, and which question each answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from study.config import UserError
from study.results import StudyResults, load_predictions, load_study
from study.study_file import is_comparison

# What the arms of a comparison differ in, and so what it is about.
KINDS = {
    frozenset({"batch_size"}): "batch-size",
    frozenset({"model"}): "models",
    frozenset({"dropout", "batch_norm"}): "regularization",
    frozenset({"model", "dropout", "batch_norm"}): "regularization",
    frozenset({"gamma"}): "schedule",
    frozenset({"train_examples"}): "training-size",
    frozenset({"width_mult"}): "width",
}

# What makes each comparison that the report's claims need.
COMMANDS = {
    "batch-size": "python -m study.compare batch-size --protocol paper",
    "models": "python -m study.compare models --protocol paper",
    "schedule": "python -m study.compare schedule --protocol paper",
    "regularization": 'python -m study.compare regularization --arms "cnn-*"',
    "training-size": "python -m study.compare training-size",
}


@dataclass(frozen=True)
class Compared:
    """A loaded comparison.

    Attributes:
        results: Its tables.
        predictions: Of its final models; empty where they were not kept.
        trials: The complete trials in the order of the arms, then of the replicates.
    """

    results: StudyResults
    predictions: pd.DataFrame
    trials: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        trials = self.results.trials
        complete = trials[trials["status"] == "complete"]
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

    def epochs(self, columns: Iterable[str] = ("arm", "replicate", "batch_size")) -> pd.DataFrame:
        """The complete trials' epochs, with `columns` of their trials."""
        return self.results.epochs.merge(self.trials[["trial_id", *columns]], on="trial_id")


@dataclass(frozen=True)
class Evidence:
    """All results that a report is made from.

    Attributes:
        searches: Loaded searches.
        comparisons: By kind (`KINDS`); one that is about something else by its own name.
    """

    searches: list[StudyResults]
    comparisons: dict[str, Compared]

    def get(self, kind: str) -> Compared | None:
        """The comparison of a kind, if it has a complete trial."""
        found = self.comparisons.get(kind)
        return found if found is not None and len(found.trials) else None


def kind_of(config: dict[str, Any]) -> str:
    """Which of `KINDS` a comparison's configuration is; its name where it is none."""
    arms = list(config["arms"].values())
    keys = {key for arm in arms for key in arm}
    differ = frozenset(key for key in keys if len({arm.get(key) for arm in arms}) > 1)
    return KINDS.get(differ) or str(config["name"])


def load_evidence(folders: Iterable[Path]) -> Evidence:
    """Load results folders, searches and comparisons alike.

    Raises:
        UserError: One is not readable, or two answer the same question.
    """
    searches: list[StudyResults] = []
    comparisons: dict[str, Compared] = {}
    for folder in folders:
        results = load_study(folder)
        if not is_comparison(results.study):
            searches.append(results)
            continue
        kind = kind_of(results.study["config"])
        if kind in comparisons:
            raise UserError(
                f"{folder}: compares the same as {comparisons[kind].results.path} ({kind}); "
                "give one of the two"
            )
        kept = (results.path / "predictions.parquet").exists()
        predictions = load_predictions(results.path) if kept else pd.DataFrame()
        comparisons[kind] = Compared(results, predictions)
    return Evidence(searches, comparisons)
