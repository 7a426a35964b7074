"""What a study keeps on disk while it runs: its lock and the tables."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout

from study.config import StudyConfig, TrialConfig
from study.data import ImageData
from study.errors import UserError
from study.files import UNFINISHED, held, make_folder, require_plain
from study.history import FACTS, History
from study.journal import JOURNAL_FILE, LOCK_FILE, trial_name, trial_status
from study.recovery import Recovered, asked, trial_config_of
from study.results import write_predictions, write_tables
from study.storage import Storage
from study.study_file import STUDY_FILE

TABLES_EVERY_S = 30.0  # the tables of a running study lag behind by at least this


@contextmanager
def locked(folder: Path, *, resume: bool) -> Iterator[None]:
    """The study's folder, made where it is new, for this process alone."""
    with ExitStack() as held_files:
        try:
            make_folder(folder)
            held_files.enter_context(FileLock(folder / ".lock", timeout=0))
            journal = folder / JOURNAL_FILE
            if not resume and not (folder / STUDY_FILE).exists():
                journal.touch()
            # The lock file may be removed while a driver runs; the journal may not.
            if journal.is_file() and not journal.is_symlink():
                held_files.enter_context(held(journal))
        except (Timeout, BlockingIOError):
            raise UserError(
                f"{folder}: another process is running this study; wait for it or stop it"
            ) from None
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error}); choose another folder"
            ) from None
        if not resume and (folder / STUDY_FILE).exists():  # made since it was checked
            raise UserError(f"{folder}: already holds a study; choose another --name")
        require_plain(folder, besides=LOCK_FILE)
        yield


def check_new_folder(folder: Path) -> None:
    """Raise `UserError` unless a new study can be made in `folder`; writes nothing."""
    if folder.exists() and not (folder.is_dir() and all(map(_is_leftover, folder.iterdir()))):
        is_study = (folder / STUDY_FILE).exists()
        resume = f"continue it with --resume {shlex.quote(str(folder))}, or "
        raise UserError(
            f"{folder}: already holds {'a study' if is_study else 'other files'}; "
            f"{resume if is_study else ''}choose another --name"
        )
    above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: {above} is not writable; choose another --results-dir")


def _is_leftover(path: Path) -> bool:
    """Whether a study that was killed before it began left this file."""
    is_empty_journal = path.name == JOURNAL_FILE and path.is_file() and not path.stat().st_size
    return path.name == ".lock" or path.name.startswith(UNFINISHED) or is_empty_journal


class TableWriter:
    """Makes a study's tables from its Optuna journal and its trials' checkpoints.

    Args:
        storage: The study's files.
        config: What is run.
        study: The open Optuna study.
        evaluated: The images that are evaluated after each epoch.
        recovered: What the ended trials measured.
    """

    def __init__(
        self,
        storage: Storage,
        config: StudyConfig,
        study: optuna.Study,
        evaluated: ImageData,
        recovered: Recovered,
    ) -> None:
        self._storage = storage
        self._config = config
        self._study = study
        self._evaluated = evaluated
        self._recovered = recovered
        self._next_write = time.monotonic() + TABLES_EVERY_S

    def status_of(self, trial_id: str) -> tuple[str, str]:
        """A trial's status and its error, empty where there is none."""
        trial = self._study.get_trials(deepcopy=False)[int(trial_id.rpartition("_")[2])]
        return trial_status(trial), trial.user_attrs.get("error", "")

    def write_sometimes(self) -> None:
        """Write the tables unless that was done lately; costs at most a twentieth of the time."""
        start = time.monotonic()
        if start >= self._next_write:
            self.write()
            self._next_write = start + max(TABLES_EVERY_S, 20 * (time.monotonic() - start))

    def write(self) -> None:
        """Write the tables, with every trial whatever its status."""
        rows: list[dict[str, Any]] = []
        histories: dict[str, History] = {}
        log_p: dict[str, np.ndarray] = {}
        for trial in asked(self._study.get_trials(deepcopy=False), self._config):
            trial_id = trial_name(trial.number)
            config = trial_config_of(self._config, trial)
            rows.append(
                {
                    "trial_id": trial_id,
                    "status": trial_status(trial),
                    "error": trial.user_attrs.get("error") or None,
                    "evaluated": self._config.evaluated,
                    **{k: v for k, v in asdict(config).items() if k not in FACTS},
                    **trial.params,
                }
            )
            found = self._history(trial_id, config)
            if found is None:
                continue
            histories[trial_id] = found
            if found.log_p is not None and len(found.log_p) == len(self._evaluated.labels):
                log_p[trial_id] = found.log_p
        folder = self._storage.folder
        write_tables(folder, rows, histories)
        if self._config.keeps_predictions:
            index, labels = self._evaluated.index, self._evaluated.labels
            index = np.arange(len(labels)) if index is None else index
            write_predictions(folder, index, labels, log_p)
        self._storage.push()
        for trial_id in self._recovered.untabled:
            if self._recovered.ended[trial_id].status != "complete":
                self._storage.keep_only(trial_id, None)
        self._recovered.untabled.clear()

    def _history(self, trial_id: str, config: TrialConfig) -> History | None:
        """What a trial has measured so far."""
        if trial_id in self._recovered.ended:
            return self._recovered.ended[trial_id]
        newest = self._storage.newest_checkpoint(trial_id, config, resumable=False)
        partial = self._recovered.partial.get(trial_id)
        if partial and (newest is None or len(newest[1].epochs) < len(partial.epochs)):
            return partial
        return newest[1] if newest else None
