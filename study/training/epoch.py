"""The measurements of one epoch, which are the columns of ``epochs.parquet``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

# Names that formats 2 to 5 gave to the columns of each table, and to an epoch's values in
# checkpoints and histories. They must stay readable, because a resumed study keeps its old
# histories.
_OF_VALIDATION = {
    f"{which}val_{what}": f"{which}eval_{what}"
    for which in ("", "best_", "last_")
    for what in ("loss", "accuracy")
}
EARLIER_NAMES = {
    "trials": _OF_VALIDATION,
    "epochs": {**_OF_VALIDATION, "lr": "epoch_lr", "seconds": "epoch_seconds"},
}


@dataclass(frozen=True)
class EpochRecord:
    """The measurements of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        step: Optimizer updates done so far.
        examples_seen: Training examples used so far.
        epoch_lr: Learning rate of the epoch.
        train_loss: Mean loss of the epoch's examples, each measured in training mode at its step.
        eval_loss: Mean cross-entropy on the evaluated images (validation or test) after the epoch.
        eval_accuracy: Fraction of the evaluated images classified correctly after the epoch.
        epoch_seconds: Wall time of the epoch, including evaluation.
        eval_seconds: Wall time of the evaluation.
        epoch_ended: When the epoch ended, in seconds since 1970 (UTC).
        grad_sq_small: Mean squared norm of the gradient of `noise_scale.SMALL_BATCH` examples
            after the epoch; None if it was not measured.
        grad_sq_big: The same for `noise_scale.BIG_BATCH` examples.
    """

    epoch: int
    step: int
    examples_seen: int
    epoch_lr: float
    train_loss: float
    eval_loss: float
    eval_accuracy: float
    epoch_seconds: float
    eval_seconds: float
    epoch_ended: float
    grad_sq_small: float | None = None
    grad_sq_big: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.eval_loss))

    def ends(self, epochs: int) -> bool:
        """Whether this epoch is the last of a trial of `epochs` epochs."""
        return self.epoch >= epochs or self.diverged


def renamed(record: dict[str, Any]) -> dict[str, Any]:
    """An epoch's values, from any format, under the current names. What it lacks is NaN."""
    names = EARLIER_NAMES["epochs"]
    values = {names.get(name, name): value for name, value in record.items()}
    values.setdefault("epoch_ended", math.nan)  # formats 2 to 5 do not say
    return values


def _of_type(annotation: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(EpochRecord) if field.type == annotation)


COUNTS = _of_type("int")
VALUES = _of_type("float")
NOISE = _of_type("float | None")  # not measured in searches
TIMES = ("epoch_seconds", "eval_seconds", "epoch_ended")  # which differ when trained again
