"""Write the tables of a running study, from its journal and its trials' histories."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna

from study.config.study import StudyConfig
from study.config.trial import TrialConfig
from study.data.images import ImageData
from study.results.history import FACTS, History
from study.results.journal import trial_name, trial_status
from study.results.predictions import write_predictions
from study.results.recovery import Recovered, asked, trial_config_of
from study.results.storage import Storage
from study.results.tables import write_tables

TABLES_EVERY_S = 30.0  # shortest time between two writes


class TableWriter:
    """Writes a study's tables from its Optuna journal and its trials' histories.

    Args:
        storage: The study's files.
        config: The study's configuration.
        study: The open Optuna study.
        evaluated: The images that are evaluated after each epoch.
        recovered: The histories of ended trials.
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
        """A trial's status and its error, which is empty if there is none."""
        trial = self._study.get_trials(deepcopy=False)[int(trial_id.rpartition("_")[2])]
        return trial_status(trial), trial.user_attrs.get("error", "")

    def write_sometimes(self) -> None:
        """Write the tables, unless they were written recently. Takes at most 5% of the time."""
        start = time.monotonic()
        if start >= self._next_write:
            self.write()
            self._next_write = start + max(TABLES_EVERY_S, 20 * (time.monotonic() - start))

    def write(self) -> None:
        """Write the tables with all trials, whatever their status."""
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
        """A trial's history so far."""
        if trial_id in self._recovered.ended:
            return self._recovered.ended[trial_id]
        newest = self._storage.newest_checkpoint(trial_id, config, resumable=False)
        partial = self._recovered.partial.get(trial_id)
        if partial and (newest is None or len(newest[1].epochs) < len(partial.epochs)):
            return partial
        return newest[1] if newest else None
