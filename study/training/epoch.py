"""The measurements of one epoch, which are the columns of ``epochs.parquet``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

# Names that formats 2 and 3 gave to columns, and to an epoch's values in checkpoints and
# histories. They must stay readable, because a resumed study keeps its old histories.
EARLIER_NAMES = {
    f"{which}val_{what}": f"{which}eval_{what}"
    for which in ("", "best_", "last_")
    for what in ("loss", "accuracy")
}


@dataclass(frozen=True)
class EpochRecord:
    """The measurements of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        step: Optimizer updates done so far.
        examples_seen: Training examples used so far.
        lr: Learning rate of the epoch.
        train_loss: Mean loss of the epoch's examples, each measured in training mode at its step.
        eval_loss: Mean cross-entropy on the evaluated images (validation or test) after the epoch.
        eval_accuracy: Fraction of the evaluated images classified correctly after the epoch.
        seconds: Wall time of the epoch, including evaluation.
        eval_seconds: Wall time of the evaluation.
        grad_sq_small: Mean squared norm of the gradient of `noise_scale.SMALL_BATCH` examples
            after the epoch; None if it was not measured.
        grad_sq_big: The same for `noise_scale.BIG_BATCH` examples.
    """

    epoch: int
    step: int
    examples_seen: int
    lr: float
    train_loss: float
    eval_loss: float
    eval_accuracy: float
    seconds: float
    eval_seconds: float
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
    """An epoch's values, from any format, under the current names."""
    return {EARLIER_NAMES.get(name, name): value for name, value in record.items()}


def _of_type(annotation: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(EpochRecord) if field.type == annotation)


COUNTS = _of_type("int")
VALUES = _of_type("float")
NOISE = _of_type("float | None")  # not measured in searches
