"""The search space, written as distributions.

By default::

    batch_size ~ Choice({32, 64, 128, 256, 512, 1024})
    lr         ~ LogUniform([0.03, 3])
    gamma      ~ Uniform([0.5, 1])
    width_mult ~ Choice({0.5, 1, 2})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)

from study.config import REPORT_HYPERPARAMETERS, StudyConfig, UserError, check_hyperparameter

Space = dict[str, BaseDistribution]

DEFAULT_SPACE: Mapping[str, BaseDistribution] = {
    "batch_size": CategoricalDistribution((32, 64, 128, 256, 512, 1024)),
    "lr": FloatDistribution(0.03, 3.0, log=True),
    "gamma": FloatDistribution(0.5, 1.0),
    "width_mult": CategoricalDistribution((0.5, 1.0, 2.0)),
}
# Another optimizer's learning rates are of another size: two decades around its usual values.
OTHER_LR: Mapping[str, FloatDistribution] = {
    "sgd": FloatDistribution(0.003, 0.3, log=True),
    "adamw": FloatDistribution(1e-4, 1e-2, log=True),
}


def default_space(optimizer: str) -> Space:
    """`DEFAULT_SPACE`, with the learning rates of `optimizer`."""
    return {**DEFAULT_SPACE, "lr": OTHER_LR.get(optimizer, DEFAULT_SPACE["lr"])}


def choices(name: str, values: Sequence[float], flag: str) -> CategoricalDistribution:
    """A choice among `values`; a single value fixes the hyperparameter.

    Raises:
        UserError: A value is impossible or given twice.
    """
    for value in values:
        check_hyperparameter(name, value, flag)
    if len(set(values)) < len(values):
        raise UserError(f"{flag}: a value is given twice in {' '.join(map(str, values))}")
    return CategoricalDistribution(tuple(values))


def interval(name: str, values: Sequence[float], flag: str) -> FloatDistribution:
    """The range ``min max``, or one value that fixes the hyperparameter.

    Raises:
        UserError: More than two values, an impossible value, or min > max.
    """
    for value in values:
        check_hyperparameter(name, value, flag)
    if len(values) > 2:
        raise UserError(
            f"{flag}: got {len(values)} values; give one (fixed) or two (smallest and largest)"
        )
    low, high = values[0], values[-1]
    if low > high:
        raise UserError(f"{flag}: the smallest, {low}, is above the largest, {high}; swap them")
    return FloatDistribution(low, high, log=name == "lr")


def report_point(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The report's own hyperparameters, moved to the nearest point of `space`."""
    point: dict[str, Any] = {}
    for name, distribution in space.items():
        wanted = REPORT_HYPERPARAMETERS[name]
        if isinstance(distribution, CategoricalDistribution):
            point[name] = min(distribution.choices, key=lambda value: abs(float(value) - wanted))  # pyright: ignore[reportArgumentType] -- our choices are numbers
        elif isinstance(distribution, FloatDistribution):
            point[name] = min(max(wanted, distribution.low), distribution.high)
    return point


def space_to_json(space: Mapping[str, BaseDistribution]) -> dict[str, dict[str, Any]]:
    """The space as plain JSON values, in Optuna's own notation."""
    return {name: json.loads(distribution_to_json(dist)) for name, dist in space.items()}


def space_from_json(space: Mapping[str, Mapping[str, Any]]) -> Space:
    """The inverse of `space_to_json`."""
    return {name: json_to_distribution(json.dumps(dist)) for name, dist in space.items()}


def space_of(config: StudyConfig) -> Space:
    """What the trials of a study draw from."""
    return space_from_json(config.distributions())


def describe(distribution: BaseDistribution) -> str:
    """A distribution in words, e.g. ``0.03 to 3 (log)``."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(f"{value:g}" for value in distribution.choices)  # pyright: ignore[reportArgumentType] -- our choices are numbers
    assert isinstance(distribution, FloatDistribution)
    if distribution.single():
        return f"{distribution.low:g}"
    return f"{distribution.low:g} to {distribution.high:g}" + (" (log)" if distribution.log else "")
