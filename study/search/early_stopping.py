"""Early stopping by ASHA, which also takes the trials of earlier sessions into account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from study.config.search import ASHA_GRACE_EPOCHS, ASHA_REDUCTION
from study.config.study import METRIC, MODE, StudyConfig
from study.results.journal import trial_name


def make_scheduler(config: StudyConfig, trials: Iterable[FrozenTrial]) -> TrialScheduler:
    """The scheduler of a session.

    Args:
        config: The study's configuration.
        trials: The trials of earlier sessions.
    """
    if not config.stops_early:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode=MODE,
        max_t=config.epochs,
        grace_period=ASHA_GRACE_EPOCHS,
        reduction_factor=ASHA_REDUCTION,
    )
    replay(scheduler, trials, METRIC)
    return scheduler


def replay(scheduler: Any, trials: Iterable[FrozenTrial], metric: str) -> None:
    """Report the results of earlier sessions' trials to a new scheduler.

    Args:
        scheduler: A Ray trial scheduler that uses only a trial's id, such as ASHA.
        trials: The study's trials.
        metric: The name under which the scheduler expects a value.
    """
    for frozen in trials:
        stand_in: Any = _Id(trial_name(frozen.number))
        scheduler.on_trial_add(None, stand_in)
        for epoch, value in sorted(frozen.intermediate_values.items()):
            scheduler.on_trial_result(None, stand_in, {"epoch": epoch, metric: value})


class _Id:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
