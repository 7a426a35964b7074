"""What one epoch measured. Its fields are the columns of ``epochs.parquet``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch measured.

    Attributes:
        epoch: 1-based.
        step: Optimizer updates done so far.
        examples_seen: Training examples used so far.
        lr: Learning rate of the epoch.
        train_loss: Mean over the epoch's examples, in training mode, of the loss at the time.
        val_loss: Mean cross-entropy on the validation split after the epoch.
        val_accuracy: Fraction right on the validation split after the epoch.
        seconds: Wall time of the epoch, evaluation included.
        eval_seconds: Wall time of the evaluation.
        grad_sq_small: Mean squared norm of the gradient of `noise_scale.SMALL_BATCH` examples
            after the epoch; None where it was not asked for.
        grad_sq_big: The same of `noise_scale.BIG_BATCH` examples.
    """

    epoch: int
    step: int
    examples_seen: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float
    eval_seconds: float
    grad_sq_small: float | None = None
    grad_sq_big: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.val_loss))

    def ends(self, epochs: int) -> bool:
        """Whether a trial of so many epochs is over with this one."""
        return self.epoch >= epochs or self.diverged


def _of_type(annotation: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(EpochRecord) if field.type == annotation)


COUNTS = _of_type("int")
VALUES = _of_type("float")
NOISE = _of_type("float | None")  # of a comparison's epoch
