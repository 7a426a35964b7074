"""The Optuna journal of a study: trial names and statuses, reading and opening it.

An ended trial is stored thus: ``complete`` as COMPLETE, ``pruned`` as PRUNED with its last
value, ``diverged`` and ``failed`` as FAIL.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.config.study import StudyConfig
from study.console.errors import UserError, cannot_be_read
from study.console.text import is_writable, one_line, shown
from study.files import open_plain, sync

JOURNAL_FILE = "optuna.log"
LOCK_FILE = f"{JOURNAL_FILE}.lock"  # prefix of the names of Optuna's locks


def trial_name(number: int) -> str:
    """The id of Optuna's trial `number` in the tables, in Ray and as a folder's name."""
    return f"trial_{number:05d}"


def trial_status(trial: FrozenTrial) -> str:
    """The status of a trial under its name in the tables."""
    if trial.state == TrialState.COMPLETE:
        return "complete"
    if trial.state == TrialState.PRUNED:
        return "pruned"
    if trial.state == TrialState.FAIL:
        return "diverged" if trial.user_attrs.get("status") == "diverged" else "failed"
    return "interrupted"


def seed_number(trial: FrozenTrial | optuna.Trial) -> int:
    """The number that decides a trial's seed: its own, or that of the trial it reruns."""
    return trial.user_attrs.get("retry_of", trial.number)


def is_retry(trial: FrozenTrial) -> bool:
    """Whether the trial reruns a failed one. Such trials come on top of the planned ones."""
    return "retry_of" in trial.user_attrs


def num_planned(config: StudyConfig, trials: Iterable[FrozenTrial]) -> int:
    """Trials in all: those that were asked for, and those that rerun a failed one."""
    return config.num_trials + sum(is_retry(trial) for trial in trials)


@dataclass(frozen=True)
class JournalContent:
    """The content of a journal.

    Attributes:
        name: The study's name; None if the journal is empty.
        attrs: The study's user attributes.
        trials: Its trials by number, including waiting ones.
    """

    name: str | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    trials: list[FrozenTrial] = field(default_factory=list)


def read_journal(folder: Path) -> JournalContent:
    """Read the journal in `folder` without changing it. Ignores a half-written last line.

    Raises:
        UserError: The journal cannot be read or is damaged.
    """
    path = folder / JOURNAL_FILE
    try:
        with open_plain(path) as file:
            content = file.read()
    except FileNotFoundError:
        return JournalContent()
    except OSError as error:
        raise cannot_be_read(path, error) from None
    with reporting_damage(path):
        lines = content.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        logs = [json.loads(line) for line in lines]
        storage = JournalStorage(_InMemory(logs))
        studies = storage.get_all_studies()
        if not studies:
            return JournalContent()
        (study,) = studies
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        if study.directions != [StudyDirection.MAXIMIZE]:
            raise ValueError(f"directions {study.directions}")
        # A sampler's position in its sequence. Each step of it is one line of the journal.
        for name, place in study.system_attrs.items():
            if name.startswith("qmc:") and not (type(place) is int and 0 <= place < len(logs)):
                raise ValueError(f"{name[:8]} {shown(place)}")
        for trial in trials:
            _check(trial)
        return JournalContent(study.study_name, study.user_attrs, trials)


def _check(trial: FrozenTrial) -> None:
    """Raise `ValueError` unless every value has the type and range that readers rely on."""
    trial._validate()  # state, times and value agree; parameters are in their distributions
    steps, attrs = list(trial.intermediate_values), trial.user_attrs
    values = [*trial.intermediate_values.values(), *(trial.values or [])]
    retried, epochs, error = seed_number(trial), attrs.get("epochs", 1), attrs.get("error", "")
    complete = trial.state == TrialState.COMPLETE
    kinds = {
        # Every epoch must be reported, so a few lines cannot claim a billion epochs.
        "step": all(type(step) is int for step in steps)
        and sorted(steps) == list(range(1, len(steps) + 1)),
        "value": all(type(value) in (int, float) and math.isfinite(value) for value in values),
        "number of values": trial.values is None or len(trial.values) == 1,
        "end": bool(steps) or not complete,
        "epochs": type(epochs) is int and epochs >= complete,
        "retry_of": type(retried) is int and 0 <= retried <= trial.number,
        "error": isinstance(error, str) and is_writable(error),
        "constraints": not trial.constraints,
    }
    if wrong := [name for name, is_right in kinds.items() if not is_right]:
        raise ValueError(f"{trial_name(trial.number)}: invalid {wrong[0]}")


class _InMemory(BaseJournalBackend):
    """A read-only journal."""

    def __init__(self, logs: list[dict[str, Any]]) -> None:
        self._logs = logs

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Turn what Optuna raises for a damaged journal into a `UserError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except Exception as error:  # Optuna does not check what it reads
        reason = one_line(error if isinstance(error, UserError) else repr(error), 200)
        raise UserError(
            f"{path}: damaged ({reason}); restore it from a copy, or start a new study"
        ) from None


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal in `folder` for writing; it is created if missing.

    The caller holds the study's lock and has read the journal with `read_journal`. So a lock or
    a half-written last line was left by a killed process, and is removed.
    """
    path = folder / JOURNAL_FILE
    for lock in folder.glob(f"{LOCK_FILE}*"):
        lock.unlink(missing_ok=True)
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    with reporting_damage(path):
        storage = JournalStorage(JournalFileBackend(str(path)))
    sync(folder)
    return storage
