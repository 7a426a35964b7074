"""The table ``predictions.parquet``: each final model's log-probabilities for each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from study.config.datasets import NUM_CLASSES
from study.console.errors import UserError
from study.files import replacing
from study.results.tables import TRIAL_COLUMNS, WRITTEN, read_table, require, require_unique

# Natural logarithms of probabilities. They distinguish confident predictions, whose
# probabilities would all round to 1.
LOG_P_COLUMNS = tuple(f"log_p{digit}" for digit in range(NUM_CLASSES))


PREDICTION_COLUMNS = {
    "trial_id": "category",
    "index": "int32",
    "label": "int8",
    "predicted": "int8",
    **dict.fromkeys(LOG_P_COLUMNS, "float16"),
}


def write_predictions(
    path: Path, index: np.ndarray, labels: np.ndarray, log_p: dict[str, np.ndarray]
) -> None:
    """Write ``predictions.parquet``.

    Args:
        path: The study's folder.
        index: Position of each evaluated image in its file, (n,).
        labels: The images' labels, (n,).
        log_p: Each final model's log-probabilities, float16 (n, 10), by trial id.
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
    """Read ``predictions.parquet`` of the study in `path`.

    Raises:
        UserError: The file is missing or damaged.
    """
    file = Path(path) / "predictions.parquet"
    try:
        frame = read_table(file, PREDICTION_COLUMNS)
        # Read last, so that in a running study it lists all trials of the predictions.
        trials = read_table(Path(path) / "trials.parquet", TRIAL_COLUMNS)
    except FileNotFoundError:
        raise UserError(f"{file}: missing; a search keeps no predictions") from None
    require(file, frame, "trial_id", frame["trial_id"].isin(trials["trial_id"]))
    require_unique(file, frame, ["trial_id", "index"])
    for column in ("label", "predicted"):
        require(file, frame, column, frame[column].between(0, NUM_CLASSES - 1))
    log_p = frame[list(LOG_P_COLUMNS)].to_numpy(np.float32)
    sums_to_one = np.abs(np.exp(log_p).sum(axis=1) - 1) < 0.02
    require(file, frame, "log_p0", pd.Series(sums_to_one, frame.index))
    groups = [g[["index", "label"]] for _, g in frame.groupby("trial_id", observed=True)]
    if any(not np.array_equal(group, groups[0]) for group in groups):
        raise UserError(f"{file}: damaged (the trials' images differ); restore it from a copy")
    return frame
