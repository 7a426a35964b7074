"""What a check returns, and what several checks need.

A check is a function ``check(results: StudyResults) -> Card`` of a search's results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.config.hyperparameters import HYPERPARAMETERS, default_values
from study.config.search import SearchConfig, values_of
from study.console.text import command_line
from study.results.shrinkage import Noise
from study.results.tables import StudyResults, search_config

PASS, WARN, FAIL, NOT_APPLICABLE = "PASS", "WARN", "FAIL", "N/A"
STATUSES = (FAIL, WARN, PASS, NOT_APPLICABLE)  # as they are shown: the worst first


@dataclass(frozen=True)
class Card:
    """The result of one check.

    Attributes:
        name: Of the check.
        status: One of `STATUSES`.
        sentence: The evidence; or, if the check does not apply, why.
        next: A command that helps, to be pasted into a shell; empty if there is nothing to do.
    """

    name: str
    status: str
    sentence: str
    next: str = ""


def by_seeds_alone(noise: Noise) -> float:
    """The difference in points that two equally good trials exceed in 5% of the cases.

    It is the 97.5% quantile of a normal distribution, times the sd of a difference of two seeds.
    """
    return 1.96 * math.sqrt(2) * 100 * noise.sd


def finalize_command(results: StudyResults) -> str:
    """The command that runs the best configurations again with new seeds."""
    return command_line("study.finalize", results.path)


def extend_command(results: StudyResults, num_samples: int) -> str:
    """The command that extends a search to `num_samples` trials."""
    return command_line("study.run", "--resume", results.path, "--num-samples", num_samples)


def search_command(
    results: StudyResults,
    scheduler: str | None = None,
    space: Mapping[str, Sequence[Any]] | None = None,
) -> str:
    """The command of a new search that differs from this one in what is given.

    Args:
        results: Of this search.
        scheduler: Another scheduler.
        space: Other values, or ends of a range, by hyperparameter.
    """
    config, changed = search_config(results), space or {}
    given: list[Any] = ["--num-samples", config.num_samples]
    for name in ("model", "dataset", "epochs", "precision", "sampler", "scheduler", "seed"):
        value = scheduler if name == "scheduler" and scheduler else getattr(config, name)
        if value != getattr(SearchConfig, name):
            given += [f"--{name}", value]
    if "optimizer" not in config.space and config.optimizer != SearchConfig.optimizer:
        given += ["--optimizer", config.optimizer]
    optimizers = values_of(config.space["optimizer"]) if "optimizer" in config.space else None
    defaults = default_values(optimizers or (config.optimizer,))
    for name, distribution in config.space.items():
        values = tuple(changed.get(name, values_of(distribution)))
        if values != defaults.get(name):
            # repr, because the command is to mean exactly the same numbers.
            words = [v if isinstance(v, str) else repr(v).removesuffix(".0") for v in values]
            given += [HYPERPARAMETERS[name].flag, *words]
    return command_line("study.run", *given)
