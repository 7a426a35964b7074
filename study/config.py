"""What a trial and a search consist of: frozen, validated, free of heavy imports."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, ClassVar

from study.datasets import DATASETS
from study.errors import UserError, require_choice, require_positive
from study.hyperparameters import HYPERPARAMETERS, NUM_TRAIN_EXAMPLES, Hyperparameter
from study.text import escape, shown

MODELS = ("cnn", "resnet18")
PRECISIONS = ("auto", "fp32", "bf16")
SAMPLERS = ("tpe", "qmc", "random", "gp", "cmaes")
SCHEDULERS = ("asha", "none")

NUM_TRAINING_IMAGES = 60_000
NUM_TEST_IMAGES = 10_000

LONGEST_NAME = 255  # bytes of a file's name, on every file system in use

# The objective of every study; see docs of `study.searcher`.
METRIC = "eval_accuracy"
MODE = "max"

ASHA_GRACE_EPOCHS = 1  # a trial is first judged after this epoch,
ASHA_REDUCTION = 3  # then after 3, 9, ... epochs; the best third goes on


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


def require_applies(
    hyperparameter: Hyperparameter, optimizers: Sequence[str], flag: str | None = None
) -> None:
    """Raise `UserError` unless one of the optimizers has the hyperparameter."""
    if not any(map(hyperparameter.applies, optimizers)):
        raise UserError(
            f"{flag or hyperparameter.name}: the optimizer {optimizers[0]} has none; leave it out, "
            f"or use {' or '.join(hyperparameter.default_of)}"
        )


def check_space(space: Mapping[str, Any], optimizer: str) -> None:
    """Raise `UserError` unless `space` has a possible distribution of each hyperparameter.

    Args:
        space: In Optuna's JSON notation.
        optimizer: Of the trials, if they draw none.
    """
    needed = [name for name, each in HYPERPARAMETERS.items() if each.space]
    if not set(needed) <= set(space) <= set(HYPERPARAMETERS):
        raise UserError(f"space: {shown(list(space))} is not of {', '.join(needed)}")
    optimizers = [optimizer]
    for name, distribution in space.items():
        each = HYPERPARAMETERS[name]
        match distribution:
            case {
                "name": "CategoricalDistribution",
                "attributes": {"choices": [_, *_] as values, **rest},
                **more,
            } if each.kind == "choice" and not rest and not more:
                pass
            case {
                "name": "FloatDistribution",
                "attributes": {"low": low, "high": high, "log": bool(), "step": None, **rest},
                **more,
            } if each.kind != "choice" and not rest and not more:
                values = [low, high]
            case _:
                raise UserError(f"space: {name}: {shown(distribution)} is no distribution of it")
        each.check_values(values, f"space: {name}")
        if name == "optimizer":
            optimizers = values
    for name in space:
        require_applies(HYPERPARAMETERS[name], optimizers, HYPERPARAMETERS[name].flag)


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
        optimizer: One of `study.hyperparameters.OPTIMIZERS`.
        precision: Arithmetic of the forward and backward pass, one of `PRECISIONS`.
        seed: Root of the trial's init, order, dropout and subset streams.
        dropout: Whether the network has dropout; None: as the report's has.
        batch_norm: Whether it has batch norm; None: as the report's has.
        train_examples: Train on a stratified subset of this size, drawn by the seed; None: all.
        momentum: Of the optimizer; None if it has none.
        weight_decay: Of the optimizer; None if it has none.
        dropout_rate: Of every dropout layer; None: those of the report's network.
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
        optimizer: Of the trials that neither draw nor are given one.
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
    optimizer: str

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
    def evaluated(self) -> str:
        """Which images are evaluated after each epoch: ``validation`` or ``test``."""
        return "test" if self.protocol == "paper" else "validation"

    @property
    def stops_early(self) -> bool:
        """Whether trials that fall behind are stopped."""
        return self.scheduler != "none"

    @abstractmethod
    def distributions(self) -> dict[str, dict[str, Any]]:
        """What its trials draw, in Optuna's JSON notation."""

    def draws(self, params: Mapping[str, Any]) -> list[str]:
        """The names of what a trial draws.

        Args:
            params: What it has drawn so far: what comes later may depend on it.
        """
        return list(self.distributions())

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
        HYPERPARAMETERS["optimizer"].check(self.optimizer, "--optimizer")
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--num-samples", self.num_samples, integer=True)
        require_positive("--epochs", self.epochs, integer=True)
        require_seed(self.seed)
        check_space(self.space, self.optimizer)
        # In one order, whatever a file's: what is drawn first decides what else applies.
        ordered = {name: self.space[name] for name in HYPERPARAMETERS if name in self.space}
        object.__setattr__(self, "space", ordered)

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

    def draws(self, params: Mapping[str, Any]) -> list[str]:
        """The names in `space`, without what the trial's optimizer lacks."""
        optimizer = params.get("optimizer", self.optimizer)
        return [name for name in self.space if HYPERPARAMETERS[name].applies(optimizer)]

    def identity(self) -> list[Any]:
        """How earlier versions told two searches apart."""
        return [self.space, self.epochs, self.model, self.dataset]

    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """Trial `number` of this search, with hyperparameters `params`."""
        return TrialConfig(
            model=self.model,
            dataset=self.dataset,
            epochs=self.epochs,
            precision=self.precision,
            seed=trial_seed(self.seed, number),
            **{"optimizer": self.optimizer, **params},
        )


def trial_seed(root: int, number: int) -> int:
    """The seed of trial, or replicate, `number` under the root seed `root`."""
    import numpy as np  # here: a configuration is to be read without it

    return int(np.random.SeedSequence([root, number]).generate_state(1)[0])
