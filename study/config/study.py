"""The base class of study configurations: frozen, validated, free of heavy imports."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any, ClassVar

from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import escape, shown

LONGEST_NAME = 255  # bytes in a file name; all common file systems have this limit
# The objective of every study; see `study.search.searcher`.
METRIC = "eval_accuracy"
MODE = "max"
# Which stream of seeds each kind of study draws from. A search's is as it always was.
SEED_FAMILIES = {"search": (), "comparison": (1,), "finalists": (2,), "final": (3,)}


def require_name(name: str, value: str) -> None:
    """Raise `UserError` unless `value` can name a study: a plain file name."""
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", value):
        raise UserError(f"{name}: {shown(value)}; use letters, digits, '.', '_' and '-'")
    if len(value.encode()) > LONGEST_NAME:
        raise UserError(f"{name}: {shown(value)} is too long; use at most {LONGEST_NAME} bytes")


def require_seed(value: int) -> None:
    """Raise `UserError` unless `value` can be the root of random streams."""
    if value < 0:
        raise UserError(f"--seed: {shown(value)} is negative; use 0 or above")


def require_types(config: Any) -> None:
    """Raise `UserError` unless each field has its type. Values from a file may be anything."""
    words = {"str": (str, "text"), "int": (int, "a whole number")}
    for field in fields(config):
        value = getattr(config, field.name)
        kind, word = words.get(str(field.type), (dict, "a table"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{field.name}: {shown(value)} is not {word}")
        if isinstance(value, str) and escape(value, keep="") != value:
            raise UserError(f"{field.name}: {shown(value)} holds a character that cannot be shown")


class StudyConfig(ABC):
    """The configuration of a study: one frozen dataclass per kind of study.

    Its fields are stored in study.json. They are fixed for the study's life, except the one
    named by `grows`.

    Attributes:
        kind: Name of the kind of study.
        module: Module of the command that runs it.
        grows: The field that a later session may raise.
        is_ranked: Whether its trials compete, so that one is the best.
        keeps_predictions: Whether the final models' predictions are kept, and the gradient's
            noise after each epoch.
        name: Folder name under the results directory.
        dataset: One of `DATASETS`.
        epochs: Epochs per trial, if it is not stopped early.
        precision: One of `PRECISIONS`.
        seed: Root of all its random streams.
        protocol: ``split``: train on the training split, evaluate on the validation split;
            ``paper``: train on all 60,000 and evaluate on the test images, as the paper did.
        sampler: One of `SAMPLERS`, or ``given``: the trials are `points`.
        scheduler: One of `SCHEDULERS`.
        optimizer: Optimizer of a trial that neither draws one nor is given one.
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
        """Total number of trials, not counting reruns of failed ones."""

    @property
    @abstractmethod
    def num_train(self) -> int:
        """Number of images that a trial trains on, unless it uses a subset."""

    @property
    def points(self) -> list[dict[str, Any]]:
        """The trials' parameters in order, if they are known in advance."""
        return []

    @property
    def evaluated(self) -> str:
        """Which images are evaluated after each epoch: ``validation`` or ``test``."""
        return "test" if self.protocol == "paper" else "validation"

    @property
    def opened_for(self) -> str | None:
        """The study beside it that records that this one opens the test set; None: itself."""
        return None

    @property
    def opening_reason(self) -> str:
        """What it opens the test set for; the same reason is recorded once."""
        return f"{self.name}: the paper's protocol; nothing is selected"

    @property
    def stops_early(self) -> bool:
        """Whether trials that fall behind are stopped."""
        return self.scheduler != "none"

    @abstractmethod
    def distributions(self) -> dict[str, dict[str, Any]]:
        """The distributions its trials draw from, in Optuna's JSON notation."""

    def draws(self, params: Mapping[str, Any]) -> list[str]:
        """The names of the hyperparameters that a trial draws.

        Args:
            params: The values drawn so far; later draws may depend on them.
        """
        return list(self.distributions())

    @abstractmethod
    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """The configuration of trial `number`, which drew `params`."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """The values by which earlier versions distinguished two studies of one kind."""

    def resume_arguments(self, path: str) -> tuple[str, ...]:
        """What `module` is given to continue the study in the folder, or at the URI, `path`."""
        return ("--resume", path)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return deepcopy(vars(self))

    def fixed_part(self) -> dict[str, Any]:
        """The fields that must not change between two sessions."""
        return {name: value for name, value in self.to_json().items() if name != self.grows}


def trial_seed(root: int, number: int, family: str = "search") -> int:
    """The seed of trial, or replicate, `number` under the root seed `root`.

    Args:
        root: The study's seed.
        number: Of the trial or replicate.
        family: One of `SEED_FAMILIES`. Two families share no seed, so that no run is repeated as
            its own confirmation.
    """
    import numpy as np  # here, so that reading a configuration does not import it

    stream = np.random.SeedSequence([root, number], spawn_key=SEED_FAMILIES[family])
    return int(stream.generate_state(1)[0])
