"""The tables of one loaded comparison, with access to its arms and their trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd

from study.config.arms import ArmsConfig
from study.results.tables import StudyResults


@dataclass(frozen=True)
class ComparedTables:
    """A loaded comparison's tables.

    Attributes:
        results: The tables.
        predictions: The final models' predictions; empty if they were not kept.
    """

    results: StudyResults
    predictions: pd.DataFrame

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The complete trials with a finite result, ordered by arm, then by replicate."""
        trials = self.results.trials
        measured = np.isfinite(trials["last_eval_accuracy"])
        complete = trials[(trials["status"] == "complete") & measured]
        order = complete["arm"].map({arm: i for i, arm in enumerate(self.arms)})
        complete = complete.assign(_order=order).sort_values(["_order", "replicate"])
        return complete.drop(columns="_order")

    @property
    def arms(self) -> list[str]:
        """The arms' names, in order."""
        return list(self.config.arms)

    @property
    def config(self) -> ArmsConfig:
        """The comparison's configuration."""
        return cast("ArmsConfig", self.results.study.config)

    @property
    def images(self) -> str:
        """Which images are evaluated: ``test`` or ``validation``."""
        return self.results.study.evaluated

    @property
    def num_images(self) -> int:
        """Number of evaluated images."""
        return self.results.study.num_evaluated

    @property
    def num_train(self) -> int:
        """Number of training images of each arm that does not set its own."""
        return self.results.study.num_train

    def of_arm(self, arm: str) -> pd.DataFrame:
        """The complete trials of an arm, by replicate."""
        return self.trials[self.trials["arm"] == arm]

    def predictions_of(self, arm: str) -> pd.DataFrame:
        """The predictions of an arm's final models; empty if none were kept."""
        if self.predictions.empty:
            return self.predictions
        return self.predictions[self.predictions["trial_id"].isin(self.of_arm(arm)["trial_id"])]

    def epochs(self, columns: Iterable[str] = ("arm", "replicate", "batch_size")) -> pd.DataFrame:
        """The complete trials' epochs, with `columns` of their trials."""
        return self.results.epochs.merge(self.trials[["trial_id", *columns]], on="trial_id")
