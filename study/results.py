"""The tables of a study: schema, writing, reading.

::

    results/<name>/
      study.json        what was searched, how, with which versions
      trials.parquet    one row per trial: trial_id | status, hyperparameters, results
      epochs.parquet    one row per epoch: trial_id, epoch | losses, accuracy
      steps.parquet     one row per optimizer step: trial_id, step | epoch, loss
      predictions.parquet  of a comparison: one row per evaluated image of each final model

Hyperparameters live only in ``trials``; join on ``trial_id``. The tables are made from the
trials' histories (`study.history`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from study.config import UserError
from study.files import replacing
from study.history import NOTHING, History

FORMAT_VERSION = 2
STATUSES = ("complete", "pruned", "diverged", "failed", "interrupted")
NUM_CLASSES = 10
# So that a flipped bit is seen; without checksums it may change a value.
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
READ: dict[str, Any] = {"page_checksum_verification": True}
TRIALS_A_PART = 200  # of the step table, when it is written

TRIAL_COLUMNS = {
    "trial_id": "string",
    "arm": "string",
    "replicate": "Int64",
    "status": "string",
    "error": "string",
    "model": "string",
    "dataset": "string",
    "optimizer": "string",
    "precision": "string",
    "batch_size": "int64",
    "lr": "float64",
    "gamma": "float64",
    "width_mult": "float64",
    "dropout": "boolean",
    "batch_norm": "boolean",
    "train_examples": "Int64",
    "epochs": "int64",
    "seed": "int64",
    "num_params": "Int64",
    "epochs_run": "int64",
    "steps_run": "int64",
    "best_epoch": "Int64",
    "best_val_accuracy": "float64",
    "best_val_loss": "float64",
    "last_train_loss": "float64",
    "last_val_loss": "float64",
    "last_val_accuracy": "float64",
    "seconds": "float64",
    "node": "string",
    "device": "string",
}
EPOCH_COLUMNS = {
    "trial_id": "string",
    "epoch": "int64",
    "step": "int64",
    "examples_seen": "int64",
    "lr": "float64",
    "train_loss": "float64",
    "val_loss": "float64",
    "val_accuracy": "float64",
    "seconds": "float64",
    "eval_seconds": "float64",
    "grad_sq_small": "float64",
    "grad_sq_big": "float64",
}
STEP_COLUMNS = {
    "trial_id": "string",
    "step": "int64",
    "epoch": "int64",
    "num_examples": "int64",
    "loss": "float64",
}
TABLES = {"trials": TRIAL_COLUMNS, "epochs": EPOCH_COLUMNS, "steps": STEP_COLUMNS}
# Log-probabilities are natural logarithms: of a confident model they tell apart what
# probabilities near 1 cannot.
LOG_P_COLUMNS = tuple(f"log_p{digit}" for digit in range(NUM_CLASSES))
PREDICTION_COLUMNS = {
    "trial_id": "category",
    "index": "int32",
    "label": "int8",
    "predicted": "int8",
    **dict.fromkeys(LOG_P_COLUMNS, "float16"),
}


@dataclass(frozen=True)
class StudyResults:
    """A loaded study.

    Attributes:
        path: Its folder.
        study: The content of ``study.json``.
        trials: ``trials.parquet``.
        epochs: ``epochs.parquet``.
        steps: ``steps.parquet``.
    """

    path: Path
    study: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    steps: pd.DataFrame


def as_table(table: str, rows: Any) -> pd.DataFrame:
    """`rows` with exactly the columns and types of `table`; what is missing is empty."""
    columns = TABLES[table]
    return pd.DataFrame(rows).reindex(columns=list(columns)).astype(columns)


def rank_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials best first: complete ones by their last validation accuracy, then the others."""
    order = trials.assign(_other=trials["status"] != "complete")
    by = ["_other", "last_val_accuracy", "last_val_loss"]
    return order.sort_values(by, ascending=[True, False, True]).drop(columns="_other")


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole: a reader sees the old file or the new one."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def write_tables(
    path: Path,
    trials: list[dict[str, Any]],
    histories: dict[str, History],
) -> None:
    """Write the three tables, each whole and renamed into place.

    Args:
        path: The study's folder.
        trials: A row a trial, with what is known beside its history.
        histories: By trial id; a trial that ended before its first epoch has none.
    """
    rows = [{**row, **histories.get(row["trial_id"], NOTHING).summary()} for row in trials]
    frames = {
        "trials": as_table("trials", rows),
        "epochs": as_table(
            "epochs", [{"trial_id": i, **e} for i, h in histories.items() for e in h.epochs]
        ),
    }
    for name, frame in frames.items():
        with replacing(path / f"{name}.parquet") as file:
            frame.to_parquet(file, index=False, **WRITTEN)
    with replacing(path / "steps.parquet") as file:
        _write_steps(file, list(histories.items()))


def load_study(path: str | Path) -> StudyResults:
    """Read the tables of a study.

    Raises:
        UserError: `path` holds no study, an unfinished write or another format.
    """
    path = Path(path)
    study = load_study_json(path)
    frames: dict[str, pd.DataFrame] = {}
    for name, columns in TABLES.items():
        file = path / f"{name}.parquet"
        if not file.exists():
            raise UserError(
                f"{path}: {file.name} is missing; the study was stopped before it wrote its "
                f"tables, continue it with: {resume_command(study, path)}"
            )
        frames[name] = _read_table(file, columns)
    return StudyResults(path, study, **frames)


def write_predictions(
    path: Path, index: np.ndarray, labels: np.ndarray, log_p: dict[str, np.ndarray]
) -> None:
    """Write ``predictions.parquet``.

    Args:
        path: The comparison's folder.
        index: Place of each evaluated image in its file, (n,).
        labels: Of the images, (n,).
        log_p: By trial id, each final model's log-probabilities, float16 (n, 10).
    """
    frames = [
        pd.DataFrame(
            {
                "trial_id": trial_id,
                "index": index,
                "label": labels,
                "predicted": values.argmax(1),
                **dict(zip(LOG_P_COLUMNS, values.T, strict=True)),
            }
        )
        for trial_id, values in log_p.items()
    ]
    frame = pd.concat(frames) if frames else pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    with replacing(path / "predictions.parquet") as file:
        frame.astype(PREDICTION_COLUMNS).to_parquet(file, index=False, **WRITTEN)


def load_predictions(path: str | Path) -> pd.DataFrame:
    """Read ``predictions.parquet`` of the comparison in `path`.

    Raises:
        UserError: There is none, or it is damaged.
    """
    file = Path(path) / "predictions.parquet"
    if not file.exists():
        raise UserError(f"{file}: missing; only a comparison keeps predictions")
    return _read_table(file, PREDICTION_COLUMNS)


def _read_table(file: Path, columns: dict[str, str]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(file, **READ)
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        raise UserError(f"{file}: not a readable table ({error})") from None
    if missing := [column for column in columns if column not in frame]:
        raise UserError(f"{file}: column {missing[0]!r} is missing; was it made by this tool?")
    return frame


def load_study_json(path: Path) -> dict[str, Any]:
    """The content of ``study.json`` in the study folder `path`.

    Raises:
        UserError: There is none, or it is damaged or of another format.
    """
    file = path / "study.json"
    if not file.is_file():
        raise UserError(f"{path}: not a study (no study.json); give a folder like results/NAME")
    try:
        study = json.loads(file.read_text())
        version = study["format_version"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: damaged, or not made by this tool") from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{file}: results format {version}, this version reads format {FORMAT_VERSION}; "
            "use the version of mnist-study that made it"
        )
    return study


def is_comparison(study: dict[str, Any]) -> bool:
    """Whether ``study.json``'s content is of a comparison, not of a search."""
    return "arms" in study.get("config", {})


def resume_command(study: dict[str, Any], path: Path | str) -> str:
    """The command that continues the study at `path`, a folder or a URI."""
    module = "study.compare" if is_comparison(study) else "study.run"
    return f"python -m {module} --resume {path}"


def _write_steps(file: IO[bytes], histories: list[tuple[str, History]]) -> None:
    """Write ``steps.parquet``, by far the longest table, in parts that fit in memory."""
    schema = pa.Schema.from_pandas(as_table("steps", []), preserve_index=False)
    with pq.ParquetWriter(file, schema, **WRITTEN) as writer:
        for first in range(0, len(histories), TRIALS_A_PART):
            frame = _step_table(histories[first : first + TRIALS_A_PART])
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))


def _step_table(histories: list[tuple[str, History]]) -> pd.DataFrame:
    """Joined column by column, since a frame a trial costs milliseconds."""
    parts = [history.step_columns() for _, history in histories]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ids = pd.array([trial_id for trial_id, _ in histories], dtype="string")
    return as_table("steps", {"trial_id": ids.repeat([len(p["step"]) for p in parts]), **columns})
