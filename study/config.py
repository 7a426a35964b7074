"""What a trial and a search consist of: frozen, validated, free of heavy imports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any

MODELS = ("cnn", "resnet18")
DATASETS = ("mnist", "fashion-mnist")
OPTIMIZERS = ("adadelta", "sgd", "adamw")
PRECISIONS = ("auto", "fp32", "bf16")
SAMPLERS = ("tpe", "qmc", "random", "gp", "cmaes")
SCHEDULERS = ("asha", "none")

# Of the training images; the remaining 10 000 are the validation split.
NUM_TRAINING_IMAGES = 60_000
NUM_TRAIN_EXAMPLES = 50_000
NUM_TEST_IMAGES = 10_000

HYPERPARAMETERS = ("batch_size", "lr", "gamma", "width_mult")

# Appendix B of the report: its defaults for batch size, learning rate and gamma.
REPORT_HYPERPARAMETERS: Mapping[str, float] = {
    "batch_size": 512,
    "lr": 1.0,
    "gamma": 0.7,
    "width_mult": 1.0,
}

# The objective of every study; see docs of `study.searcher`.
METRIC = "val_accuracy"
MODE = "max"

ASHA_GRACE_EPOCHS = 1  # a trial is first judged after this epoch,
ASHA_REDUCTION = 3  # then after 3, 9, ... epochs; the best third goes on


class UserError(Exception):
    """A mistake the user can mend; its text is one line that says how."""


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{name}: unknown value {value!r}; choose one of {', '.join(choices)}")


def require_positive(name: str, value: float, *, integer: bool = False) -> None:
    """Raise `UserError` unless `value` is a finite number above zero."""
    number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        kind = "a whole number" if integer else "a finite number"
        raise UserError(f"{name}: {value!r} is not {kind} above zero")


def check_hyperparameter(name: str, value: float, flag: str | None = None) -> None:
    """Raise `UserError` unless `value` is possible for the hyperparameter `name`.

    Args:
        name: One of `HYPERPARAMETERS`.
        value: The value to check.
        flag: How the user spells it; `name` where omitted.
    """
    flag = flag or name
    require_positive(flag, value, integer=name == "batch_size")
    if name == "batch_size" and value > NUM_TRAIN_EXAMPLES:
        raise UserError(
            f"{flag}: {value} is larger than the training split of {NUM_TRAIN_EXAMPLES} examples; "
            f"use at most {NUM_TRAIN_EXAMPLES}"
        )
    if name == "gamma" and value > 1:
        raise UserError(
            f"{flag}: {value} would raise the learning rate each epoch; use a value in (0, 1]"
        )


@dataclass(frozen=True)
class TrialConfig:
    """One training run.

    Attributes:
        model: Architecture, one of `MODELS`.
        dataset: One of `DATASETS`.
        batch_size: Examples a step; the last batch of an epoch may be smaller.
        lr: Learning rate of the first epoch.
        gamma: Factor on the learning rate after each epoch (StepLR).
        width_mult: Factor on every hidden width.
        epochs: Passes over the training split.
        optimizer: One of `OPTIMIZERS`.
        precision: Arithmetic of the forward and backward pass, one of `PRECISIONS`.
        seed: Root of the trial's init, order, dropout and subset streams.
        dropout: Whether the network has dropout; None: as the report's has.
        batch_norm: Whether it has batch norm; None: as the report's has.
        train_examples: Train on a stratified subset of this size, drawn by the seed; None: all.
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

    def __post_init__(self) -> None:
        require_choice("model", self.model, MODELS)
        require_choice("dataset", self.dataset, DATASETS)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("precision", self.precision, PRECISIONS)
        require_positive("epochs", self.epochs, integer=True)
        for name in HYPERPARAMETERS:
            check_hyperparameter(name, getattr(self, name))
        for name in ("dropout", "batch_norm"):
            if not isinstance(getattr(self, name), (bool, NoneType)):
                raise UserError(f"{name}: {getattr(self, name)!r} is neither true nor false")
        if self.train_examples is not None:
            require_positive("train_examples", self.train_examples, integer=True)
            if self.train_examples > NUM_TRAINING_IMAGES:
                raise UserError(
                    f"train_examples: {self.train_examples} is more than the "
                    f"{NUM_TRAINING_IMAGES} training images"
                )


@dataclass(frozen=True)
class StudyConfig:
    """One search. Everything but `num_samples` is fixed for the study's life.

    Attributes:
        name: Folder name under the results directory.
        space: Search space as JSON (`study.space.space_to_json`).
        num_samples: Trials in all; resuming may raise it.
        epochs: Epochs of a trial that is not stopped early.
        seed: Root of the search's and the trials' seeds.
        sampler: One of `SAMPLERS`.
        scheduler: One of `SCHEDULERS`.
    """

    name: str
    space: dict[str, dict[str, Any]]
    num_samples: int = 40
    model: str = "cnn"
    dataset: str = "mnist"
    epochs: int = 15
    optimizer: str = "adadelta"
    precision: str = "auto"
    sampler: str = "tpe"
    scheduler: str = "asha"
    seed: int = 1

    def __post_init__(self) -> None:
        require_choice("--sampler", self.sampler, SAMPLERS)
        require_choice("--scheduler", self.scheduler, SCHEDULERS)
        require_choice("--model", self.model, MODELS)
        require_choice("--dataset", self.dataset, DATASETS)
        require_choice("--optimizer", self.optimizer, OPTIMIZERS)
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--num-samples", self.num_samples, integer=True)
        require_positive("--epochs", self.epochs, integer=True)
        if self.seed < 0:
            raise UserError(f"--seed: {self.seed} is negative; use 0 or above")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @property
    def protocol(self) -> str:
        """A search trains and selects within the training images."""
        return "split"

    @property
    def num_train(self) -> int:
        """Size of the training split."""
        return NUM_TRAIN_EXAMPLES

    def identity(self) -> list[Any]:
        """What must not change between two sessions."""
        return [self.space, self.epochs, self.model, self.dataset]

    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """Trial `number` of this study, with hyperparameters `params`."""
        return TrialConfig(
            model=self.model,
            dataset=self.dataset,
            epochs=self.epochs,
            optimizer=self.optimizer,
            precision=self.precision,
            seed=trial_seed(self.seed, number),
            **params,
        )


def trial_seed(root: int, number: int) -> int:
    """The seed of trial, or replicate, `number` under the root seed `root`."""
    import numpy as np  # here: a configuration is to be read without it

    return int(np.random.SeedSequence([root, number]).generate_state(1)[0])
