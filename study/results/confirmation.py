"""What finalists and final runs say of a search: the chosen configuration, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from study.config.arms import ArmsConfig
from study.config.finalists import CHOSEN, PAPER
from study.results.estimates import (
    Estimate,
    detectable,
    over_seeds,
    over_seeds_and_images,
)
from study.results.halving import ranking
from study.results.tables import StudyResults
from study.results.trials import complete_trials, have_papers_settings


@dataclass(frozen=True)
class Choice:
    """What the finalists' runs say.

    Attributes:
        arm: The chosen arm: the trial's id in the search, or ``paper``.
        settings: Its configuration.
        again: Its validation accuracy with fresh seeds. The seeds that chose it are among them,
            so it is a little too high.
        table: One row per arm, best first; see `halving.ranking`.
        trials: Table ``trials`` of the finalists' runs.
    """

    arm: str
    settings: dict[str, Any]
    again: Estimate
    table: pd.DataFrame
    trials: pd.DataFrame


def choice(finalists: StudyResults) -> Choice:
    """The choice that ended finalists' runs lead to."""
    table = ranking(finalists.trials)
    arm = str(table["arm"].iloc[0])
    trials = finalists.trials
    runs = trials[(trials["arm"] == arm) & (trials["status"] == "complete")]
    settings = cast("ArmsConfig", finalists.study.config).arms[arm]
    again = over_seeds(runs["last_eval_accuracy"].to_numpy())
    return Choice(arm, settings, again, table, trials)


def search_scores(trials: pd.DataFrame) -> pd.Series:
    """The validation accuracy that each arm's configuration had in the search, by arm.

    Args:
        trials: Table ``trials`` of the search.
    """
    complete = complete_trials(trials)
    scores = complete.set_index("trial_id")["last_eval_accuracy"]
    papers = complete.loc[have_papers_settings(complete), "last_eval_accuracy"]
    return pd.concat([scores, papers.head(1).set_axis([PAPER][: len(papers)])])


@dataclass(frozen=True)
class Measured:
    """One number, for new seeds, and for new seeds and new images."""

    seeds: Estimate
    both: Estimate


@dataclass(frozen=True)
class Final:
    """What the final runs say, on the test images.

    Attributes:
        accuracy: Of each arm with a complete run.
        gain: Of the chosen configuration over the paper's, paired by seed, in points; None if
            they are the same or one has no run.
        detectable: The gain in points that so many pairs find in 80% of cases.
        pairs: Number of seeds that both arms completed.
        missing: How many planned runs of each arm have no final model, if any: they diverged,
            failed or have not ended.
    """

    accuracy: dict[str, Measured]
    gain: Measured | None
    detectable: float
    pairs: int
    missing: dict[str, int]


def final(runs: StudyResults, predictions: pd.DataFrame) -> Final:
    """What final runs say.

    Args:
        runs: The study of kind ``final``.
        predictions: Its table ``predictions``.
    """
    right = right_by_seed(runs, predictions)
    accuracy = {arm: _measured(frame.to_numpy()) for arm, frame in right.items()}
    planned = cast("ArmsConfig", runs.study.config).seeds_by_arm
    missing = {arm: n - len(right.get(arm, ())) for arm, n in planned.items()}
    missing = {arm: n for arm, n in missing.items() if n}
    if not {CHOSEN, PAPER} <= right.keys():
        return Final(accuracy, None, np.nan, 0, missing)
    chosen, paper = right[CHOSEN].align(right[PAPER], join="inner", axis=0)
    difference = 100 * (chosen.to_numpy() - paper.to_numpy())
    if not len(difference):
        return Final(accuracy, None, np.nan, 0, missing)
    least = detectable(difference.mean(axis=1)) if len(difference) > 1 else np.nan
    return Final(accuracy, _measured(difference), least, len(difference), missing)


def right_by_seed(runs: StudyResults, predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each arm, which images each complete run gets right: 1 or 0, replicates by images."""
    right = predictions.assign(right=predictions["predicted"] == predictions["label"])
    by_trial = right.pivot(index="trial_id", columns="index", values="right").astype(float)
    complete = runs.trials[runs.trials["status"] == "complete"].set_index("trial_id")
    complete = complete[complete.index.isin(by_trial.index)]
    return {
        str(arm): by_trial.loc[rows.index].set_axis(rows["replicate"].astype(int)).sort_index()
        for arm, rows in complete.groupby("arm", sort=False)
    }


def _measured(scores: np.ndarray) -> Measured:
    return Measured(over_seeds(scores.mean(axis=1)), over_seeds_and_images(scores))
