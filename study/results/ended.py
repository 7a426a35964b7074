"""Whether a study of arms has begun and has ended, and whether anything follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pandas as pd

from study.config.arms import ArmsConfig
from study.config.study import StudyConfig
from study.console.errors import StorageError, UserError
from study.console.text import command_line
from study.results.history import ENDS
from study.results.lock import locked
from study.results.predictions import load_predictions
from study.results.storage import Storage
from study.results.study_file import STUDY_FILE, StudyFile
from study.results.tables import load_study


def has_begun(storage: Storage) -> bool:
    """Whether there is such a study, here or in its object store."""
    return (storage.folder / STUDY_FILE).exists() or bool(storage.uri and storage.has_study())


@contextmanager
def begun(storage: Storage) -> Iterator[StudyConfig | None]:
    """The configuration of a study, which is locked meanwhile; None if there is none yet."""
    if not has_begun(storage):
        yield None
        return
    with locked(storage.folder, resume=True):
        if storage.uri and storage.has_study():
            storage.pull()
        yield StudyFile.read(storage.folder).config


def tables_of(storage: Storage) -> pd.DataFrame:
    """Table ``trials`` of a study of arms, whose tables are whole.

    Raises:
        UserError: A table is missing or damaged.
    """
    results = load_study(storage.folder)
    load_predictions(storage.folder)
    arms, trials = cast("ArmsConfig", results.study.config).arms, results.trials
    if len(unknown := trials[~trials["arm"].isin(arms) | trials["replicate"].isna()]):
        raise UserError(
            f"{storage.folder / 'trials.parquet'}: damaged ({unknown['trial_id'].iloc[0]!a} is of "
            "no arm); restore it from a copy"
        )
    return trials


def ended_trials(storage: Storage, config: StudyConfig) -> pd.DataFrame | None:
    """Table ``trials`` of a study; None if not all trials have ended, or a session must write it.

    A session writes tables that are missing or damaged again, or says why it cannot.
    """
    try:
        trials = tables_of(storage)
    except StorageError:
        raise
    except UserError:
        return None
    all_ended = len(trials) >= config.num_trials and trials["status"].isin(ENDS).all()
    return trials if all_ended else None


def require_a_result(storage: Storage, config: StudyConfig, trials: pd.DataFrame) -> None:
    """Raise `UserError` if no run of an ended study is complete: nothing can follow from it."""
    if not (trials["status"] == "complete").any() and not failed_for_now(storage, config):
        raise UserError(
            f"{storage.folder}: no run is complete ({trials['status'].iloc[-1]}); see "
            f"{command_line('study.status', storage.folder)}; once the cause is fixed, remove "
            "this folder and begin again"
        )


def failed_for_now(storage: Storage, config: StudyConfig) -> bool:
    """Whether all trials have ended and a run that failed was not yet run again."""
    trials = ended_trials(storage, config)
    if trials is None:
        return False
    runs = trials.groupby(["arm", "replicate"])["status"]
    return bool(((runs.count() == 1) & runs.apply(lambda s: s.eq("failed").all())).any())
