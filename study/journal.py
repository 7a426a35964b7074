"""The Optuna journal of a study: names in it, and reading it beside a running driver."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.config import UserError

JOURNAL_FILE = "optuna.log"


def trial_name(number: int) -> str:
    """The id of Optuna's trial `number`: in the tables, in Ray and as a folder."""
    return f"trial_{number:05d}"


def trial_status(trial: FrozenTrial) -> str:
    """The status of a trial, as the tables name it."""
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "pruned"
    if trial.state == TrialState.FAIL:
        return trial.user_attrs.get("status", "failed")
    return "interrupted"


@contextmanager
def journal_at(path: Path) -> Iterator[JournalStorage]:
    """The journal at `path`, to be opened and read within.

    Raises:
        UserError: It is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"{path}: damaged ({error!r}); restore it from a copy, or start a new study"
        ) from None


def read_trials(folder: Path) -> list[FrozenTrial]:
    """The trials of the study in `folder` that have started; leaves the journal as it is.

    Raises:
        UserError: The journal is damaged.
    """
    path = folder / JOURNAL_FILE
    if not path.exists() or not path.stat().st_size:
        return []
    with journal_at(path) as storage:
        (study,) = storage.get_all_studies()
        trials = storage.get_all_trials(study._study_id)
    return [trial for trial in trials if trial.params]
