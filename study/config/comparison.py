"""The configuration of a comparison (fixed arms, several seeds each), and its TOML file.

Each arm is one configuration. Replicate k of every arm has the same seed, so arms with the
same network begin with the same weights. No trial is stopped early and nothing is selected.
`study.config.questions` has the built-in comparisons. Your own one is a small TOML file::

    title = "Does the optimizer matter?"    # optional

    [defaults]                              # optional: for every arm
    batch_size = 64

    [arms.adadelta]

    [arms.sgd]
    optimizer = "sgd"
    lr = 0.05
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.config.datasets import DATASETS
from study.config.hyperparameters import HYPERPARAMETERS, NUM_TRAIN_EXAMPLES
from study.config.study import StudyConfig, require_name, require_seed, require_types, trial_seed
from study.config.trial import NUM_TRAINING_IMAGES, PRECISIONS, TrialConfig
from study.console.errors import UserError, require_choice, require_positive
from study.console.text import shown

PROTOCOLS = ("split", "paper")
MAX_REPLICATES = 1000
MIN_VALIDATION = 1000  # images left to evaluate on

# The settings of an arm. All others belong to the comparison.
ARM_SETTINGS = (
    "model",
    *HYPERPARAMETERS,
    "dropout",
    "batch_norm",
    "train_examples",
)


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        title: The question in words.
        arms: Each arm's settings, from `ARM_SETTINGS`; the others are the paper's.
        optional: Arms that run only if they are asked for.
    """

    title: str
    arms: Mapping[str, Mapping[str, Any]]
    optional: tuple[str, ...] = ()

    def select(self, patterns: Sequence[str] | None) -> dict[str, dict[str, Any]]:
        """The arms that match one of `patterns` (``cnn-*``); None: all but the optional ones.

        Raises:
            UserError: A pattern matches no arm.
        """
        if patterns is None:
            names = [name for name in self.arms if name not in self.optional]
        else:
            for pattern in patterns:
                if not fnmatch.filter(self.arms, pattern):
                    raise UserError(
                        f"--arms: no arm is named {pattern!r}; choose from {', '.join(self.arms)}"
                    )
            names = [n for n in self.arms if any(fnmatch.fnmatch(n, p) for p in patterns)]
        return {name: dict(self.arms[name]) for name in names}


@dataclass(frozen=True)
class ComparisonConfig(StudyConfig):
    """One comparison: each arm is trained with the same seeds.

    Attributes:
        title: The question.
        arms: Each arm's settings.
        replicates: Seeds of each arm; resuming may raise it.
    """

    kind = "comparison"
    module = "study.compare"
    grows = "replicates"
    is_ranked = False
    keeps_predictions = True
    sampler = "given"
    scheduler = "none"
    optimizer = TrialConfig.optimizer

    name: str
    title: str
    arms: dict[str, dict[str, Any]]
    replicates: int = 10
    epochs: int = 15
    dataset: str = "mnist"
    protocol: str = "split"
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        require_name("--name", self.name)
        require_choice("--dataset", self.dataset, DATASETS)
        require_choice("--protocol", self.protocol, PROTOCOLS)
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--replicates", self.replicates, integer=True)
        require_positive("--epochs", self.epochs, integer=True)
        if self.replicates > MAX_REPLICATES:
            raise UserError(f"--replicates: {self.replicates} is too many; use {MAX_REPLICATES}")
        require_seed(self.seed)
        if not self.arms:
            raise UserError("arms: there are none; a comparison needs at least one")
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
    def num_trials(self) -> int:
        """Arms times replicates."""
        return len(self.arms) * self.replicates

    @property
    def num_train(self) -> int:
        """Images that a trial trains on, unless its arm takes fewer."""
        if self.protocol == "paper":
            return NUM_TRAINING_IMAGES
        asked = [settings.get("train_examples") or 0 for settings in self.arms.values()]
        return max([NUM_TRAIN_EXAMPLES, *asked])

    @property
    def points(self) -> list[dict[str, Any]]:
        """The trials in order: all arms of one replicate, then of the next."""
        replicates = range(1, self.replicates + 1)
        return [{"arm": arm, "replicate": k} for k in replicates for arm in self.arms]

    def trial_config(self, params: Mapping[str, Any], number: int) -> TrialConfig:
        """The configuration of one replicate of one arm. `number` is not used."""
        seed = trial_seed(self.seed, params["replicate"])
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
        """The values by which earlier versions distinguished two comparisons."""
        return [self.arms, self.epochs, self.dataset, self.protocol, self.seed]


def load_comparison(path: Path) -> Comparison:
    """Read a comparison from a TOML file; the top of this module shows one.

    Raises:
        UserError: The file cannot be read or holds no valid comparison.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; --help shows an example of one")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib raises ValueErrors
        raise UserError(f"{path}: not a readable TOML file ({error})") from None
    _check_keys(content, ("title", "defaults", "arms"), str(path))
    title, defaults = content.get("title", path.stem), content.get("defaults", {})
    arms = content.get("arms", {})
    if not isinstance(title, str):
        raise UserError(f"{path}: title: {shown(title)} is not text")
    check_arms({"defaults": defaults}, str(path))
    check_arms(arms, f"{path}: arms")
    if len(arms) < 2:
        raise UserError(
            f"{path}: too few arms ({len(arms)}); a comparison needs at least [arms.A] and [arms.B]"
        )
    return Comparison(title, {n: {**defaults, **s} for n, s in arms.items()})


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
        _check_keys(settings, ARM_SETTINGS, f"{where}: {name}")


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UserError(
                f"{where}: unknown key {shown(key)}{hint(key, known)}; "
                f"the keys are {', '.join(known)}"
            )


def hint(word: str, known: Any) -> str:
    """`` (did you mean '…'?)``, if one of the `known` words is close to `word`."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
