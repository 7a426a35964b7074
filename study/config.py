"""What a trial and a search consist of: frozen, validated, free of heavy imports."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, ClassVar

from study.text import escape, shown

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
CHOICES = ("batch_size", "width_mult")  # a search draws them from a list, the others from a range
# Beyond these nothing is learned: nothing moves or all overflows, nothing fits or is left.
LIMITS: Mapping[str, tuple[float, float]] = {"lr": (1e-8, 1e20), "width_mult": (0.05, 32)}
MOST = 10**9  # of what is counted: trials, epochs, images

# Appendix B of the report: its defaults for batch size, learning rate and gamma.
REPORT_HYPERPARAMETERS: Mapping[str, float] = {
    "batch_size": 512,
    "lr": 1.0,
    "gamma": 0.7,
    "width_mult": 1.0,
}

LONGEST_NAME = 255  # bytes of a file's name, on every file system in use

# The objective of every study; see docs of `study.searcher`.
METRIC = "val_accuracy"
MODE = "max"

ASHA_GRACE_EPOCHS = 1  # a trial is first judged after this epoch,
ASHA_REDUCTION = 3  # then after 3, 9, ... epochs; the best third goes on


class UserError(Exception):
    """A mistake the user can mend; its text is one line that says how."""


class StorageError(UserError):
    """Files cannot be read or written now. What they hold is not damaged, and not lost."""


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{name}: unknown value {shown(value)}; choose one of {', '.join(choices)}")


def require_positive(name: str, value: float, *, integer: bool = False) -> None:
    """Raise `UserError` unless `value` is a finite number above zero; a whole one is limited."""
    number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not number or value <= 0 or (isinstance(value, float) and not math.isfinite(value)):
        kind = "a whole number" if integer else "a finite number"
        raise UserError(f"{name}: {shown(value)} is not {kind} above zero")
    if integer and value > MOST:
        raise UserError(f"{name}: {shown(value)} is too large; use at most {MOST}")


def require_name(name: str, value: str) -> None:
    """Raise `UserError` unless `value` can name a study: a plain file name."""
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", value):
        raise UserError(f"{name}: {shown(value)}; use letters, digits, '.', '_' and '-'")
    if len(value.encode()) > LONGEST_NAME:
        raise UserError(f"{name}: {shown(value)} is too long; use at most {LONGEST_NAME} bytes")


def require_seed(value: int) -> None:
    """Raise `UserError` unless `value` can be a root of random streams."""
    if value < 0:
        raise UserError(f"--seed: {shown(value)} is negative; use 0 or above")


def require_types(config: Any) -> None:
    """Raise `UserError` unless each field is of its type: a file may hold anything."""
    words = {"str": (str, "text"), "int": (int, "a whole number")}
    for field in fields(config):
        value = getattr(config, field.name)
        kind, word = words.get(str(field.type), (dict, "a table"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{field.name}: {shown(value)} is not {word}")
        if isinstance(value, str) and escape(value, keep="") != value:
            raise UserError(f"{field.name}: {shown(value)} holds what cannot be shown")


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
    low, high = LIMITS.get(name, (0, math.inf))
    if not low <= value <= high:
        raise UserError(f"{flag}: {shown(value)} is out of range; use {low:g} to {high:g}")
    if name == "gamma" and value > 1:
        raise UserError(
            f"{flag}: {shown(value)} would raise the learning rate each epoch; use a value in "
            "(0, 1]"
        )


def check_space(space: Mapping[str, Any]) -> None:
    """Raise `UserError` unless `space` has a possible distribution of each hyperparameter."""
    if set(space) != set(HYPERPARAMETERS):
        raise UserError(f"space: {shown(list(space))} is not of {', '.join(HYPERPARAMETERS)}")
    for name, distribution in space.items():
        match distribution:
            case {
                "name": "CategoricalDistribution",
                "attributes": {"choices": [_, *_] as values, **rest},
                **more,
            } if name in CHOICES and not rest and not more:
                pass
            case {
                "name": "FloatDistribution",
                "attributes": {"low": low, "high": high, "log": bool(), "step": None, **rest},
                **more,
            } if name not in CHOICES and not rest and not more:
                values = [low, high]
            case _:
                raise UserError(f"space: {name}: {shown(distribution)} is no distribution of it")
        for value in values:
            check_hyperparameter(name, value, f"space: {name}")
        if name in CHOICES and len(set(values)) < len(values):
            raise UserError(f"space: {name}: a value is given twice in {shown(values)}")
        if name not in CHOICES and values[0] > values[1]:
            raise UserError(f"space: {name}: the smallest is above the largest in {shown(values)}")


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


class StudyConfig(ABC):
    """What a study is asked to do: one class per kind of study, each a frozen dataclass.

    Its fields are in study.json, and fixed for the study's life, except the one that `grows`.

    Attributes:
        kind: What the kind is called.
        module: The command that runs it.
        grows: The field that a later session may raise.
        is_ranked: Whether its trials compete, so that one is the best.
        keeps_predictions: Whether the final models' predictions are kept, and the gradient's
            noise after each epoch.
        name: Folder name under the results directory.
        dataset: One of `DATASETS`.
        epochs: Of a trial that is not stopped early.
        precision: One of `PRECISIONS`.
        seed: Root of all its random streams.
        protocol: ``split``: train on the training split, evaluate on the validation split;
            ``paper``: train on all 60 000 and evaluate on the test images, as the report did.
        sampler: One of `SAMPLERS`, or ``given``: the trials are `points`.
        scheduler: One of `SCHEDULERS`.
    """

    kind: ClassVar[str]
    module: ClassVar[str]
    grows: ClassVar[str]
    is_ranked: ClassVar[bool]
    keeps_predictions: ClassVar[bool]
    name: str
    dataset: str
    epochs: int
    precision: str
    seed: int
    protocol: str
    sampler: str
    scheduler: str

    @property
    @abstractmethod
    def num_trials(self) -> int:
        """Trials in all, without those that run a failed one again."""

    @property
    @abstractmethod
    def num_train(self) -> int:
        """Images that a trial trains on if it does not take fewer."""

    @property
    def points(self) -> list[dict[str, Any]]:
        """The trials in their order, if they are known in advance."""
        return []

    @property
    def stops_early(self) -> bool:
        """Whether trials that fall behind are stopped."""
        return self.scheduler != "none"

    @abstractmethod
    def distributions(self) -> dict[str, dict[str, Any]]:
        """What its trials draw, in Optuna's JSON notation."""

    @abstractmethod
    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """The configuration of trial `number`, which drew `params`."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """How earlier versions told two studies of a kind apart."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return deepcopy(vars(self))

    def fixed_part(self) -> dict[str, Any]:
        """All of it that must not change between two sessions."""
        return {name: value for name, value in self.to_json().items() if name != self.grows}


@dataclass(frozen=True)
class SearchConfig(StudyConfig):
    """One search: a sampler proposes trials, of which the best is wanted.

    Attributes:
        name: Folder name under the results directory.
        space: Search space as JSON (`study.space.space_to_json`).
        num_samples: Trials in all; resuming may raise it.
    """

    kind = "search"
    module = "study.run"
    grows = "num_samples"
    is_ranked = True
    keeps_predictions = False
    protocol = "split"  # a search trains and selects within the training images

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
        require_types(self)
        require_name("--name", self.name)
        require_choice("--sampler", self.sampler, SAMPLERS)
        require_choice("--scheduler", self.scheduler, SCHEDULERS)
        require_choice("--model", self.model, MODELS)
        require_choice("--dataset", self.dataset, DATASETS)
        require_choice("--optimizer", self.optimizer, OPTIMIZERS)
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--num-samples", self.num_samples, integer=True)
        require_positive("--epochs", self.epochs, integer=True)
        require_seed(self.seed)
        check_space(self.space)

    @property
    def num_trials(self) -> int:
        """`num_samples`."""
        return self.num_samples

    @property
    def num_train(self) -> int:
        """Size of the training split."""
        return NUM_TRAIN_EXAMPLES

    def distributions(self) -> dict[str, dict[str, Any]]:
        """`space`."""
        return self.space

    def identity(self) -> list[Any]:
        """How earlier versions told two searches apart."""
        return [self.space, self.epochs, self.model, self.dataset]

    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """Trial `number` of this search, with hyperparameters `params`."""
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
