"""The configuration of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.config.datasets import DATASETS
from study.config.hyperparameters import HYPERPARAMETERS, NUM_TRAIN_EXAMPLES
from study.config.study import StudyConfig, require_name, require_seed, require_types, trial_seed
from study.config.trial import MODELS, PRECISIONS, TrialConfig, require_applies
from study.console.errors import UserError, require_choice, require_positive
from study.console.text import shown

SAMPLERS = ("tpe", "qmc", "random", "gp", "cmaes")
SCHEDULERS = ("asha", "none")
ASHA_GRACE_EPOCHS = 1  # a trial is first judged after this epoch,
ASHA_REDUCTION = 3  # then after 3, 9, ... epochs; the best third goes on


def num_warm_up(num_trials: int) -> int:
    """Trials before TPE or the Gaussian process chooses: a quarter, at least 4, at most 10."""
    return min(10, max(4, num_trials // 4))


def values_of(distribution: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of a choice, or the two ends of a range; a single value if it is fixed.

    Args:
        distribution: In Optuna's JSON notation.
    """
    of_it = distribution["attributes"]
    values = of_it["choices"] if "choices" in of_it else (of_it["low"], of_it["high"])
    return tuple(dict.fromkeys(values))


def check_space(space: Mapping[str, Any], optimizer: str) -> None:
    """Raise `UserError` unless `space` has a valid distribution of each hyperparameter.

    Args:
        space: The distributions in Optuna's JSON notation.
        optimizer: The optimizer of the trials, if they do not draw one.
    """
    needed = [name for name, each in HYPERPARAMETERS.items() if each.space]
    if not set(needed) <= set(space) <= set(HYPERPARAMETERS):
        raise UserError(
            f"space: {shown(list(space))} must include {', '.join(needed)} and may add "
            "only other hyperparameters"
        )
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
                raise UserError(f"space: {name}: {shown(distribution)} is not a valid distribution")
        each.check_values(values, f"space: {name}")
        if name == "optimizer":
            optimizers = values
    for name in space:
        require_applies(HYPERPARAMETERS[name], optimizers, HYPERPARAMETERS[name].flag)


@dataclass(frozen=True)
class SearchConfig(StudyConfig):
    """One search: a sampler proposes trials, and the best one is wanted.

    Attributes:
        name: Folder name under the results directory.
        space: Search space as JSON (`study.config.space.space_to_json`).
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
        require_choice("--sampler", self.sampler, SAMPLERS)
        require_choice("--scheduler", self.scheduler, SCHEDULERS)
        require_choice("--model", self.model, MODELS)
        require_choice("--dataset", self.dataset, DATASETS)
        require_name("--name", self.name)  # after these two, as the default name is made from them
        HYPERPARAMETERS["optimizer"].check(self.optimizer, "--optimizer")
        require_choice("--precision", self.precision, PRECISIONS)
        require_positive("--num-samples", self.num_samples, integer=True)
        require_positive("--epochs", self.epochs, integer=True)
        require_seed(self.seed)
        check_space(self.space, self.optimizer)
        # Sorted into a fixed order, because earlier draws decide which later ones apply.
        ordered = {name: self.space[name] for name in HYPERPARAMETERS if name in self.space}
        object.__setattr__(self, "space", ordered)

    @property
    def num_trials(self) -> int:
        """Trials in all: `num_samples`."""
        return self.num_samples

    @property
    def num_train(self) -> int:
        """Images in the training split."""
        return NUM_TRAIN_EXAMPLES

    def distributions(self) -> dict[str, dict[str, Any]]:
        """The search space: `space`."""
        return self.space

    def draws(self, params: Mapping[str, Any]) -> list[str]:
        """The names in `space`, except hyperparameters that the trial's optimizer lacks."""
        optimizer = params.get("optimizer", self.optimizer)
        return [name for name in self.space if HYPERPARAMETERS[name].applies(optimizer)]

    @property
    def varied(self) -> dict[str, dict[str, Any]]:
        """The part of `space` in which several values can be drawn."""
        return {name: each for name, each in self.space.items() if len(values_of(each)) > 1}

    def identity(self) -> list[Any]:
        """The values by which earlier versions distinguished two searches."""
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
