"""Rebuild the histories of trials from the tables of a study, if their own files are lost."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.config.hyperparameters import HYPERPARAMETERS
from study.console.errors import StorageError, UserError
from study.results.history import FACTS, History
from study.results.predictions import LOG_P_COLUMNS, PREDICTION_COLUMNS
from study.results.tables import TABLES, in_seconds, read_table

# The columns of `trials.parquet` that describe a trial's configuration, whatever its status.
CONFIGURED = ("model", "dataset", *HYPERPARAMETERS, "epochs", "seed")
# The columns of `trials.parquet` that are never empty.
NEVER_EMPTY = [
    *("trial_id", "status", "epochs_run"),
    *(n for n in CONFIGURED if n not in HYPERPARAMETERS or not HYPERPARAMETERS[n].may_be_empty),
]


class Tables:
    """The readable tables of a study. Each one is read when first needed.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str, dict[Any, pd.DataFrame]] = {}

    @cached_property
    def rows(self) -> dict[str, dict[Any, Any]]:
        """The rows of ``trials.parquet`` by trial id."""
        frame = self._read("trials")
        return {} if frame is None else {row["trial_id"]: row for row in frame.to_dict("records")}

    def status(self, trial_id: str) -> str:
        """A trial's status; ``interrupted`` for an unknown trial."""
        return self.rows.get(trial_id, {}).get("status", "interrupted")

    def epochs_run(self, trial_id: str) -> int:
        """An upper limit of the epochs that the tables hold of a trial."""
        return self.rows.get(trial_id, {}).get("epochs_run", 0)

    def history(self, trial_id: str) -> History | None:
        """A trial's history according to the tables; None if they lack the trial.

        A kill between two writes leaves one table older than another. So only epochs that all
        tables hold are used. If all steps of a trial are lost, its epochs are still used. If
        epochs are missing, the trial counts as not ended.
        """
        if (row := self.rows.get(trial_id)) is None:
            return None
        rows = self._of_trials("epochs").get(trial_id)
        if rows is not None:
            rows = rows.assign(epoch_ended=in_seconds(rows["epoch_ended"]))
        epochs = [
            {str(name): value for name, value in record.items() if name != "trial_id"}
            for record in ([] if rows is None else rows.sort_values("epoch").to_dict("records"))
        ]
        known = [row["epochs_run"], len(epochs)]
        if (steps := self._of_trials("steps").get(trial_id)) is not None:
            known.append(steps["epoch"].nunique())
            steps = steps[steps["epoch"] <= min(known)]
        epochs = epochs[: min(known)]
        losses, sizes = _step_losses(steps, len(epochs))
        ended = row["status"] != "interrupted" and len(epochs) == row["epochs_run"]
        return History(
            epochs=epochs,
            step_losses=losses,
            batch_sizes=sizes,
            facts=_facts(row),
            log_p=self._log_p(trial_id),
            status=row["status"] if ended else None,
            error="" if pd.isna(row["error"]) else row["error"],
        )

    def completed(self, values: History, trial_id: str) -> History:
        """The journal's `values` of a trial, completed by what is left in the tables."""
        row = self.rows.get(trial_id, {})
        epochs = [dict(epoch) for epoch in values.epochs]
        if epochs and row.get("epochs_run") == len(epochs):
            epochs[-1]["train_loss"] = row["last_train_loss"]
            epochs[-1]["eval_loss"] = row["last_eval_loss"]
        losses, sizes = _step_losses(self._of_trials("steps").get(trial_id), len(epochs))
        for epoch in epochs if sizes else ():
            epoch["step"] = epoch["epoch"] * len(sizes)
            epoch["examples_seen"] = epoch["epoch"] * sum(sizes)
        return replace(
            values,
            epochs=epochs,
            step_losses=losses,
            batch_sizes=sizes,
            facts=_facts(row),
            log_p=self._log_p(trial_id),
        )

    def _log_p(self, trial_id: str) -> np.ndarray | None:
        predictions = self._of_trials("predictions").get(trial_id)
        return None if predictions is None else predictions[list(LOG_P_COLUMNS)].to_numpy()

    def _of_trials(self, name: str) -> dict[Any, pd.DataFrame]:
        """The rows of a table by trial id."""
        if name not in self._parts:
            frame = self._read(name)
            grouped = () if frame is None else frame.groupby("trial_id", observed=True)
            self._parts[name] = dict(iter(grouped))
        return self._parts[name]

    def _read(self, name: str) -> pd.DataFrame | None:
        columns = {**TABLES, "predictions": PREDICTION_COLUMNS}[name]
        try:
            frame = read_table(self._folder / f"{name}.parquet", columns)
        except StorageError:  # unreadable now, but perhaps intact
            raise
        except (FileNotFoundError, UserError):  # missing or damaged: it will be written again
            return None
        never_empty = NEVER_EMPTY if name == "trials" else ["trial_id"]
        return None if frame[never_empty].isna().any(axis=None) else frame


def _facts(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FACTS if not pd.isna(row.get(name))}


def _step_losses(steps: pd.DataFrame | None, epochs: int) -> tuple[list[np.ndarray], list[int]]:
    """The step losses of each epoch, and the batch sizes of one; empty if steps are missing."""
    if steps is None:
        return [], []
    by_epoch = [part for _, part in steps.sort_values("step").groupby("epoch")]
    if len(by_epoch) != epochs or len({len(part) for part in by_epoch}) != 1:
        return [], []
    losses = [part["loss"].to_numpy(np.float32) for part in by_epoch]
    return losses, by_epoch[0]["num_examples"].tolist()
