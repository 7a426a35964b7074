"""The Parquet tables of a study: schema, writing, reading.

::

    results/<name>/
      study.json        the configuration, data, versions and sessions
      trials.parquet    one row per trial: trial_id | status, hyperparameters, results
      epochs.parquet    one row per epoch: trial_id, epoch | losses, accuracy
      steps.parquet     one row per optimizer step: trial_id, step | epoch, loss
      predictions.parquet  not in a search: one row per evaluated image and final model

Hyperparameters are only in ``trials``; join on ``trial_id``. The tables are made from the
trials' histories (`study.results.history`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.search import SearchConfig
from study.config.trial import MODELS
from study.console.errors import StorageError, UserError
from study.console.text import one_line
from study.files import open_plain, replacing
from study.results.history import ENDS, FACTS, LATEST_S, NOTHING, History
from study.results.study_file import FORMAT_VERSIONS, StudyFile, resume_command
from study.training.epoch import COUNTS, EARLIER_NAMES, NOISE, VALUES

STATUSES = (*ENDS, "interrupted")
MORE_READS = 8  # extra reads while a running study replaces the tables
BETWEEN_READS_S = 0.25
STILL_WRITING_S = 10.0  # a table changed more recently than this may be read again
# Checksums detect flipped bits, which could otherwise change a value unnoticed.
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
TRIALS_A_PART = 200  # the step table is written in parts of this many trials

TIME = "datetime64[ms, UTC]"

TRIAL_COLUMNS = {
    "trial_id": "string",
    "arm": "string",
    "replicate": "Int64",
    "status": "string",
    "error": "string",
    "rank": "Int64",
    "model": "string",
    "dataset": "string",
    "evaluated": "string",
    "precision": "string",
    **{name: each.column for name, each in HYPERPARAMETERS.items()},
    "dropout": "boolean",
    "batch_norm": "boolean",
    "train_examples": "Int64",
    "epochs": "int64",
    "seed": "int64",
    "num_params": "Int64",
    "epochs_run": "int64",
    "steps_run": "int64",
    "best_epoch": "Int64",
    "best_eval_accuracy": "float64",
    "best_eval_loss": "float64",
    "last_train_loss": "float64",
    "last_eval_loss": "float64",
    "last_eval_accuracy": "float64",
    "seconds": "float64",
    "started": TIME,
    "ended": TIME,
    "node": "string",
    "device": "string",
}
EPOCH_COLUMNS = {
    "trial_id": "string",
    **dict.fromkeys(COUNTS, "int64"),
    **dict.fromkeys((*VALUES, *NOISE), "float64"),
    "epoch_ended": TIME,
}
STEP_COLUMNS = {
    "trial_id": "string",
    "step": "int64",
    "epoch": "int64",
    "num_examples": "int64",
    "loss": "float64",
}
TABLES = {"trials": TRIAL_COLUMNS, "epochs": EPOCH_COLUMNS, "steps": STEP_COLUMNS}
# The range of each column. No figure could show a value outside it.
RANGES = {
    **dict.fromkeys(("epoch", "step", "num_examples"), (1, np.inf)),
    **{
        name: (each.least, min(each.most, np.finfo(float).max))
        for name, each in HYPERPARAMETERS.items()
        if each.type is not str
    },
    **dict.fromkeys(("best_eval_accuracy", "last_eval_accuracy", "eval_accuracy"), (0, 1)),
}


@dataclass(frozen=True)
class StudyResults:
    """A loaded study.

    Attributes:
        path: Its folder.
        study: ``study.json``.
        trials: ``trials.parquet``.
        epochs: ``epochs.parquet``.
        steps: ``steps.parquet``.
    """

    path: Path
    study: StudyFile
    trials: pd.DataFrame
    epochs: pd.DataFrame
    steps: pd.DataFrame


def search_config(results: StudyResults) -> SearchConfig:
    """The configuration of a search."""
    return cast("SearchConfig", results.study.config)


def as_table(table: str, rows: Any) -> pd.DataFrame:
    """`rows` with exactly the columns and types of `table`. Missing values are empty.

    Times are in seconds since 1970, or as the table has them; impossible ones are left out.
    """
    columns = TABLES[table]
    frame = pd.DataFrame(rows).reindex(columns=list(columns))
    for name in (name for name, kind in columns.items() if kind == TIME):
        if not isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            seconds = frame[name].astype(float)
            seconds = seconds.where(seconds.between(0, LATEST_S))
            frame[name] = pd.to_datetime(seconds, unit="s", utc=True).dt.round("ms")
    return frame.astype(columns)


def in_seconds(times: pd.Series) -> pd.Series:
    """Times as seconds since 1970, which is how histories hold them."""
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def write_tables(
    path: Path,
    trials: list[dict[str, Any]],
    histories: dict[str, History],
) -> None:
    """Write the three tables, each atomically.

    Args:
        path: The study's folder.
        trials: One row per trial, with the columns that do not follow from its history.
        histories: Histories by trial id. A trial without an epoch has none.
    """
    rows = [{**row, **histories.get(row["trial_id"], NOTHING).summary()} for row in trials]
    frames = {
        "trials": _ranked(as_table("trials", rows)),
        "epochs": as_table(
            "epochs", [{"trial_id": i, **e} for i, h in histories.items() for e in h.epochs]
        ),
    }
    for name, frame in frames.items():
        with replacing(path / f"{name}.parquet") as file:
            frame.to_parquet(file, index=False, **WRITTEN)
    with replacing(path / "steps.parquet") as file:
        _write_steps(file, list(histories.items()))


def _ranked(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with the place of each complete trial of a search, 1 for the most accurate.

    A trial that was stopped early has none: it was not measured at the same epoch.
    """
    is_ranked = trials["status"].eq("complete") & trials["arm"].isna()
    by = ["last_eval_accuracy", "last_eval_loss"]
    ordered = trials[is_ranked].dropna(subset=by).sort_values(by, ascending=[False, True])
    ranks = pd.Series(range(1, len(ordered) + 1), ordered.index, "Int64")
    return trials.assign(rank=ranks.reindex(trials.index))


def load_study(path: str | Path) -> StudyResults:
    """Read the tables of a study.

    If a running study is just replacing them, they are read again, a limited number of times,
    until they are consistent.

    Raises:
        UserError: `path` holds no study, a damaged one, one of another format, or tables that
            do not match.
    """
    path = Path(path)
    study = StudyFile.read(path)
    frames = {name: _load_table(path, name, study) for name in TABLES}
    misfit, is_lost = _misfit(**frames)
    for _ in range(MORE_READS):
        if not misfit or not _just_written(path):
            break
        time.sleep(BETWEEN_READS_S)
        frames = {name: _load_table(path, name, study) for name in TABLES}
        misfit, is_lost = _misfit(**frames)
    if misfit and not is_lost:
        raise UserError(
            f"{path}: the tables do not match ({misfit}); write them again with: "
            f"{resume_command(study.config, path)}"
        )
    return StudyResults(path, study, **frames)


def _just_written(path: Path) -> bool:
    newest = max((path / f"{name}.parquet").stat().st_mtime for name in TABLES)
    return time.time() - newest < STILL_WRITING_S


def _load_table(path: Path, name: str, study: StudyFile) -> pd.DataFrame:
    file = path / f"{name}.parquet"
    try:
        frame = read_table(file, TABLES[name])
    except FileNotFoundError:
        raise UserError(
            f"{path}: {file.name} is missing (not written yet, or lost); write it with: "
            f"{resume_command(study.config, path)}"
        ) from None
    keys = {"trials": ["trial_id"], "epochs": ["trial_id", "epoch"], "steps": ["trial_id", "step"]}
    require_unique(file, frame, keys[name])
    if name == "trials":
        require(file, frame, "status", frame["status"].isin(STATUSES))
        require(file, frame, "model", frame["model"].isin(MODELS))
        # A table of an earlier format does not say which images were evaluated.
        frame["evaluated"] = frame["evaluated"].fillna(study.evaluated)
        require(file, frame, "evaluated", frame["evaluated"] == study.evaluated)
    for column, (low, high) in RANGES.items():
        if column in frame:
            each = HYPERPARAMETERS.get(column)
            may_be_unknown = "accuracy" in column or (each is not None and each.may_be_empty)
            unknown = frame[column].isna() & may_be_unknown
            require(file, frame, column, frame[column].between(low, high) | unknown)
    return frame


def _misfit(trials: pd.DataFrame, epochs: pd.DataFrame, steps: pd.DataFrame) -> tuple[str, bool]:
    """How the tables disagree, and whether lost steps are the only reason."""
    for name, frame in (("epochs", epochs), ("steps", steps)):
        if unknown := set(frame["trial_id"].unique()) - set(trials["trial_id"]):
            return f"{name}.parquet has rows of the unknown trial {min(unknown)!a}", False
    lost = ""
    for name, frame, column in (("epochs", epochs, "epochs_run"), ("steps", steps, "steps_run")):
        table = trials.set_index("trial_id")[column]
        counts = frame["trial_id"].value_counts().reindex(table.index, fill_value=0)
        for trial_id in table.index[table != counts]:
            found = int(counts[trial_id])
            words = f"{name}.parquet has {found} rows of {trial_id!a}, not {table[trial_id]}"
            if name == "epochs" or found:
                return words, False
            lost = words
    return lost, True


def read_table(file: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read the table in `file`, with exactly `columns`.

    Raises:
        UserError: The file is damaged.
        FileNotFoundError: There is no such file.
    """
    try:
        with open_plain(file) as opened:
            table = pq.read_table(opened, page_checksum_verification=True)
        table.validate(full=True)
        frame = table.to_pandas()
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:  # damage may raise any error
        if isinstance(error, OSError) and error.errno is not None:  # not caused by damage
            raise StorageError(f"{file}: cannot be read ({one_line(error)})") from None
        raise UserError(
            f"{file}: not a readable table ({one_line(error, 200)}); restore it from a copy, or "
            "write it again with --resume"
        ) from None
    frame = frame.rename(columns=EARLIER_NAMES.get(file.stem, {}))
    if "optimizer" in columns and "optimizer" in frame:
        try:
            _fill_later_columns(frame)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: damaged ({one_line(error, 80)}); restore it from a copy"
            ) from None
    is_ranked = "rank" in frame
    for column in ("rank", "started", "ended", "epoch_ended"):  # from format 6 on
        if column in columns and column not in frame:
            frame[column] = pd.Series(pd.NA, frame.index, columns[column])
    for column, kind in columns.items():
        if list(frame.columns).count(column) != 1:
            raise UserError(f"{file}: column {column!r} is missing; was it made by this tool?")
        if len(frame) and (found := str(frame[column].dtype)) != kind:
            raise UserError(
                f"{file}: column {column!r} has type {found}, not {kind}; restore the file from a "
                "copy"
            )
    for column in (name for name, kind in columns.items() if kind == TIME and len(frame)):
        latest = pd.Timestamp(LATEST_S, unit="s", tz="UTC")
        possible = frame[column].between(pd.Timestamp(0, tz="UTC"), latest)
        require(file, frame, column, possible | frame[column].isna())
    frame = frame[list(columns)].reset_index(drop=True)
    if "rank" in columns and not is_ranked:
        frame = _ranked(frame)
    return frame if len(frame) else frame.astype(columns)  # an empty category column has no type


def _fill_later_columns(trials: pd.DataFrame) -> None:
    """Add today's columns to a table of an earlier format.

    Such a table lacks hyperparameters that could not be set then, and does not say which images
    were evaluated. For a trial that never ran, its `FACTS` columns hold what was asked for; they
    are emptied.
    """
    if "evaluated" not in trials:
        trials["evaluated"] = pd.Series(pd.NA, trials.index, "string")
        trials.loc[trials["epochs_run"] == 0, [name for name in FACTS if name in trials]] = pd.NA
    for name, each in HYPERPARAMETERS.items():
        if name not in trials and each.since > FORMAT_VERSIONS[0]:
            defaults = [each.default_for(optimizer) for optimizer in trials["optimizer"]]
            trials[name] = pd.Series(defaults, trials.index, each.column)


def require_unique(file: Path, frame: pd.DataFrame, keys: list[str]) -> None:
    """Raise `UserError` if two rows of `file` have the same `keys`, or a row lacks a key."""
    for key in keys:
        require(file, frame, key, frame[key].notna())
    if len(doubled := np.flatnonzero(frame.duplicated(keys))):
        which = ", ".join(f"{key} {frame[key].iloc[doubled[0]]!s}" for key in keys)
        raise UserError(f"{file}: damaged (duplicate: {ascii(which)[:90]}); restore it from a copy")


def require(file: Path, frame: pd.DataFrame, column: str, good: pd.Series) -> None:
    """Raise `UserError` naming the first value of `column` that is not `good`, if any."""
    if len(bad := np.flatnonzero(~good.fillna(False).to_numpy(bool))):
        value = ascii(str(frame[column].iloc[bad[0]]))[:60]
        raise UserError(f"{file}: damaged ({column} {value}); restore it from a copy")


def _write_steps(file: IO[bytes], histories: list[tuple[str, History]]) -> None:
    """Write ``steps.parquet`` in parts that fit in memory; it is by far the longest table."""
    schema = pa.Schema.from_pandas(as_table("steps", []), preserve_index=False)
    with pq.ParquetWriter(file, schema, **WRITTEN) as writer:
        for first in range(0, len(histories), TRIALS_A_PART):
            frame = _step_table(histories[first : first + TRIALS_A_PART])
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))


def _step_table(histories: list[tuple[str, History]]) -> pd.DataFrame:
    """The steps of several trials in one frame; one frame per trial would take much longer."""
    parts = [history.step_columns() for _, history in histories]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ids = pd.array([trial_id for trial_id, _ in histories], dtype="string")
    return as_table("steps", {"trial_id": ids.repeat([len(p["step"]) for p in parts]), **columns})
