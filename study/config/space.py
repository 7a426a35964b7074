"""The search space as Optuna distributions: the default one, conversions, descriptions.

The default space::

    batch_size ~ Choice({32, 64, 128, 256, 512, 1024})
    lr         ~ LogUniform([0.03, 3])
    gamma      ~ Uniform([0.5, 1])
    width_mult ~ Choice({0.5, 1, 2})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)

from study.config.hyperparameters import HYPERPARAMETERS, default_values
from study.config.study import StudyConfig

Space = dict[str, BaseDistribution]


def default_space(*optimizers: str) -> Space:
    """The default search space, with learning rates that suit `optimizers`."""
    return {name: distribution(name, v) for name, v in default_values(optimizers).items()}


def distribution(name: str, values: Sequence[Any], flag: str | None = None) -> BaseDistribution:
    """The distribution that a search draws a hyperparameter from.

    Args:
        name: One of `HYPERPARAMETERS`.
        values: All values of a choice, both ends of a range, or one value that fixes it.
        flag: The option's name on the command line; by default `name`.

    Raises:
        UserError: A value is impossible, or there are too many.
    """
    each = HYPERPARAMETERS[name]
    each.check_values(values, flag)
    if each.kind == "choice":
        return CategoricalDistribution(tuple(values))
    low, high = values[0], values[-1]
    return FloatDistribution(low, high, log=each.kind == "log" and low > 0)


DEFAULT_SPACE: Mapping[str, BaseDistribution] = default_space("adadelta")


def paper_point(space: Mapping[str, BaseDistribution], optimizer: str) -> dict[str, Any]:
    """The paper's own hyperparameters, moved to the nearest point of `space`.

    Args:
        space: The distributions that a search draws from.
        optimizer: Optimizer of its trials, if they do not draw one.
    """
    point: dict[str, Any] = {}
    for name, distribution in space.items():
        wanted = HYPERPARAMETERS[name].default_for(point.get("optimizer", optimizer))
        if wanted is None:  # there is no default, so the sampler draws a value if needed
            continue
        if isinstance(distribution, CategoricalDistribution):
            point[name] = min(distribution.choices, key=partial(_distance, wanted))
        elif isinstance(distribution, FloatDistribution):
            point[name] = min(max(wanted, distribution.low), distribution.high)
    return point


def _distance(wanted: Any, value: Any) -> float:
    return float(value != wanted) if isinstance(wanted, str) else abs(value - wanted)


def space_to_json(space: Mapping[str, BaseDistribution]) -> dict[str, dict[str, Any]]:
    """The space as plain JSON values, in Optuna's own notation."""
    return {name: json.loads(distribution_to_json(dist)) for name, dist in space.items()}


def space_from_json(space: Mapping[str, Mapping[str, Any]]) -> Space:
    """The space from the JSON values that `space_to_json` made."""
    return {name: json_to_distribution(json.dumps(dist)) for name, dist in space.items()}


def space_of(config: StudyConfig) -> Space:
    """The search space of a study's trials."""
    return space_from_json(config.distributions())


def describe(distribution: BaseDistribution) -> str:
    """A distribution in words, e.g. ``0.03 to 3 (log)``."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in distribution.choices)
    assert isinstance(distribution, FloatDistribution)
    if distribution.single():
        return f"{distribution.low:g}"
    return f"{distribution.low:g} to {distribution.high:g}" + (" (log)" if distribution.log else "")
