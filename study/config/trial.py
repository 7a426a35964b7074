"""The configuration of one training run: frozen, validated, free of heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType

from study.config.datasets import DATASETS
from study.config.hyperparameters import HYPERPARAMETERS, Hyperparameter
from study.console.errors import UserError, require_choice, require_positive

MODELS = ("cnn", "resnet18")
PRECISIONS = ("auto", "fp32", "bf16")
NUM_TRAINING_IMAGES = 60_000
NUM_TEST_IMAGES = 10_000


def require_applies(
    hyperparameter: Hyperparameter, optimizers: Sequence[str], flag: str | None = None
) -> None:
    """Raise `UserError` unless one of the optimizers has the hyperparameter."""
    if not any(map(hyperparameter.applies, optimizers)):
        raise UserError(
            f"{flag or hyperparameter.name}: the optimizer {optimizers[0]} has no such setting; "
            f"leave it out, or use {' or '.join(hyperparameter.default_of)}"
        )


@dataclass(frozen=True)
class TrialConfig:
    """One training run.

    Attributes:
        model: Architecture, one of `MODELS`.
        dataset: One of `DATASETS`.
        batch_size: Examples per step; the last batch of an epoch may be smaller.
        lr: Learning rate of the first epoch.
        gamma: Factor applied to the learning rate after each epoch (StepLR).
        width_mult: Factor applied to every hidden width.
        epochs: Passes over the training split.
        optimizer: One of `study.config.hyperparameters.OPTIMIZERS`.
        precision: Arithmetic of the forward and backward pass, one of `PRECISIONS`.
        seed: Root of the trial's init, order, dropout and subset streams.
        dropout: Whether the network has dropout; None: as in the paper.
        batch_norm: Whether the network has batch norm; None: as in the paper.
        train_examples: Train on a stratified subset of this size, drawn by the seed; None: all.
        momentum: The optimizer's momentum; None if it has none.
        weight_decay: The optimizer's weight decay; None if it has none.
        dropout_rate: Rate of every dropout layer; None: the rates of the paper's network.
    """

    model: str = "cnn"
    dataset: str = "mnist"
    batch_size: int = 512
    lr: float = 1.0
    gamma: float = 0.7
    width_mult: float = 1.0
    epochs: int = 15
    optimizer: str = "adadelta"
    precision: str = "auto"
    seed: int = 1
    dropout: bool | None = None
    batch_norm: bool | None = None
    train_examples: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    dropout_rate: float | None = None

    def __post_init__(self) -> None:
        require_choice("model", self.model, MODELS)
        require_choice("dataset", self.dataset, DATASETS)
        HYPERPARAMETERS["optimizer"].check(self.optimizer)
        require_choice("precision", self.precision, PRECISIONS)
        require_positive("epochs", self.epochs, integer=True)
        for name, each in HYPERPARAMETERS.items():
            value = getattr(self, name)
            if value is None and each.may_be_empty:
                object.__setattr__(self, name, each.default_for(self.optimizer))
                continue
            require_applies(each, [self.optimizer])
            each.check(value)
        for name in ("dropout", "batch_norm"):
            if not isinstance(getattr(self, name), (bool, NoneType)):
                raise UserError(f"{name}: {getattr(self, name)!r} is neither true nor false")
        if self.dropout is False and self.dropout_rate is not None:
            raise UserError(
                f"dropout_rate: {self.dropout_rate:g} contradicts dropout = false; leave one out"
            )
        if self.train_examples is not None:
            require_positive("train_examples", self.train_examples, integer=True)
            if self.train_examples > NUM_TRAINING_IMAGES:
                raise UserError(
                    f"train_examples: {self.train_examples} is more than the "
                    f"{NUM_TRAINING_IMAGES} training images"
                )
