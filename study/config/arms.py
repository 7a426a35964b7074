"""Studies of fixed configurations (arms), each trained with several seeds (replicates).

Replicate k of every arm has the same seed, so that arms that share a network begin with the same
weights. Nothing is stopped early.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.config.datasets import DATASETS
from study.config.hyperparameters import HYPERPARAMETERS, NUM_TRAIN_EXAMPLES
from study.config.study import StudyConfig, require_name, require_seed, require_types, trial_seed
from study.config.trial import NUM_TRAINING_IMAGES, PRECISIONS, TrialConfig
from study.console.errors import UserError, require_choice, require_positive
from study.console.text import hint, shown

MAX_REPLICATES = 1000
MIN_VALIDATION = 1000  # images left to evaluate on

# The settings of an arm. All others belong to the study.
ARM_SETTINGS = ("model", *HYPERPARAMETERS, "dropout", "batch_norm", "train_examples")


def require_replicates(value: int) -> None:
    """Raise `UserError` unless `value` can be a number of seeds per arm."""
    require_positive("--replicates", value, integer=True)
    if value > MAX_REPLICATES:
        raise UserError(f"--replicates: {value} is too many; use {MAX_REPLICATES}")


@dataclass(frozen=True)
class ArmsConfig(StudyConfig):
    """The configuration of a study of arms; one subclass per kind.

    Attributes:
        title: The question.
        arms: Each arm's settings.
    """

    is_ranked = False
    keeps_predictions = True
    sampler = "given"
    scheduler = "none"
    optimizer = TrialConfig.optimizer

    name: str
    title: str
    arms: dict[str, dict[str, Any]]
    epochs: int = 15
    dataset: str = "mnist"
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        require_name("--name", self.name)
        require_choice("--dataset", self.dataset, DATASETS)
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--epochs", self.epochs, integer=True)
        require_seed(self.seed)
        if not self.arms:
            raise UserError("arms: there are none; give at least one")
        check_arms(self.arms, "arms")
        for name, config in {name: self._arm(name) for name in self.arms}.items():
            if config.batch_size > (config.train_examples or self.num_train):
                raise UserError(
                    f"arm {name}: batch_size: {config.batch_size} is larger than its "
                    f"{config.train_examples} training examples"
                )
        if self.protocol == "split" and NUM_TRAINING_IMAGES - self.num_train < MIN_VALIDATION:
            raise UserError(
                f"train_examples: {self.num_train} leaves fewer than {MIN_VALIDATION} validation "
                "images; use fewer, or --protocol paper"
            )

    @property
    @abstractmethod
    def seeds_by_arm(self) -> dict[str, int]:
        """The number of seeds of each arm."""

    @property
    def seed_family(self) -> str:
        """One of `study.config.study.SEED_FAMILIES`."""
        return self.kind

    @property
    def num_trials(self) -> int:
        """The seeds of all arms."""
        return sum(self.seeds_by_arm.values())

    @property
    def num_train(self) -> int:
        """Number of images that an arm trains on, unless it takes fewer."""
        if self.protocol == "paper":
            return NUM_TRAINING_IMAGES
        asked = [settings.get("train_examples") or 0 for settings in self.arms.values()]
        return max([NUM_TRAIN_EXAMPLES, *asked])

    @property
    def points(self) -> list[dict[str, Any]]:
        """The trials in order: all arms of one replicate, then of the next."""
        seeds = self.seeds_by_arm
        replicates = range(1, max(seeds.values()) + 1)
        return [{"arm": a, "replicate": k} for k in replicates for a in seeds if k <= seeds[a]]

    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """The configuration of one replicate of one arm. `number` is not used."""
        seed = trial_seed(self.seed, params["replicate"], self.seed_family)
        return replace(self._arm(params["arm"]), seed=seed)

    def _arm(self, name: str) -> TrialConfig:
        try:
            return TrialConfig(
                dataset=self.dataset,
                epochs=self.epochs,
                precision=self.precision,
                **self.arms[name],
            )
        except UserError as error:
            raise UserError(f"arm {name}: {error}") from None

    def distributions(self) -> dict[str, dict[str, Any]]:
        """The arm and the replicate, which identify a trial."""
        replicates = {"low": 1, "high": MAX_REPLICATES, "log": False, "step": 1}
        return {
            "arm": {"name": "CategoricalDistribution", "attributes": {"choices": list(self.arms)}},
            "replicate": {"name": "IntDistribution", "attributes": replicates},
        }

    def identity(self) -> list[Any]:
        """See `StudyConfig`; for kinds that no earlier version had."""
        return []


def check_arms(arms: Any, where: str) -> None:
    """Raise `UserError` unless `arms` is a table of arms, each a table of known settings.

    Args:
        arms: The value to check.
        where: The beginning of an error message.
    """
    if not isinstance(arms, dict):
        raise UserError(f"{where}: {shown(arms)} is not a table of arms")
    for name, settings in arms.items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"{where}: {shown(name)}: use letters, digits, '.', '_' and '-'")
        if not isinstance(settings, dict):
            raise UserError(f"{where}: {name}: {shown(settings)} is not a table of settings")
        check_keys(settings, ARM_SETTINGS, f"{where}: {name}")


def check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `UserError` if `table` has a key that is not `known`."""
    for key in table:
        if key not in known:
            raise UserError(
                f"{where}: unknown key {shown(key)}{hint(key, known)}; "
                f"the keys are {', '.join(known)}"
            )
