"""The finalists of a search, and how long it takes to confirm it."""

from __future__ import annotations

import math
from typing import Any

from study.config.finalists import BUDGET, FINALISTS, PAPER, FinalistsConfig
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.config.trial import NUM_TRAINING_IMAGES, TrialConfig
from study.console.errors import UserError
from study.results.tables import StudyResults
from study.results.trials import arm_settings, rank_trials


def candidates(results: StudyResults) -> dict[str, dict[str, Any]]:
    """The arms of the finalists: the search's best configurations, and the paper's."""
    trials, config = results.trials, results.study.config
    paper = {"model": trials["model"].iloc[0]}
    found: dict[TrialConfig, tuple[str, dict[str, Any]]] = {}
    for row in rank_trials(trials[trials["status"] == "complete"]).to_dict("records"):
        settings = arm_settings(row)
        found.setdefault(TrialConfig(**settings), (row["trial_id"], settings))
    arms = dict(list(found.values())[:FINALISTS])
    as_paper = TrialConfig(**paper)
    arms = {arm: s for arm, s in arms.items() if TrialConfig(**s) != as_paper}
    if not arms:
        raise UserError(f"{results.path}: all complete trials of {config.name} are the paper's")
    return {**arms, PAPER: paper}


def expected_seconds(
    results: StudyResults,
    budget: int = BUDGET,
    replicates: int = FinalistsConfig.replicates,
    slots: int | None = None,
) -> float | None:
    """About how long a confirmation takes, at the speed of the search's complete trials.

    Args:
        results: The search.
        budget: Runs of the finalists.
        replicates: Final runs of each of two configurations.
        slots: Trials at once; None: as many as in the search's last session.

    Returns:
        Seconds; None if the search's times are lost.
    """
    trials = results.trials
    of_each = trials.loc[trials["status"] == "complete", "seconds"].mean()
    larger = NUM_TRAINING_IMAGES / NUM_TRAIN_EXAMPLES  # the final runs train on all images
    at_once = max(slots or results.study.sessions[-1].concurrent_trials, 1)
    seconds = of_each * (budget + larger * 2 * replicates) / at_once
    return seconds if math.isfinite(seconds) else None
