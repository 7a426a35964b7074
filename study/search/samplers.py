"""How the hyperparameters of a trial are chosen: fixed first points, then an Optuna sampler."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

from study.config.search import num_warm_up
from study.config.space import paper_point, space_of
from study.config.study import StudyConfig


def first_points(config: StudyConfig, num_earlier: int = 0) -> Iterator[dict[str, Any]]:
    """The parameters of the trials that are fixed in advance, after the earlier ones.

    In a comparison all trials are fixed. In a search, the first one is the paper's own
    configuration. For samplers that learn from earlier trials (tpe, gp) a Latin hypercube
    follows as warm-up: all batch sizes and widths occur equally often, and each range is covered
    from end to end. A few independent draws would leave this to chance.
    """
    yield from islice(_all_first_points(config), num_earlier, None)


def _all_first_points(config: StudyConfig) -> Iterator[dict[str, Any]]:
    if config.sampler == "given":
        yield from config.points
        return
    space = space_of(config)
    yield paper_point(space, config.optimizer)
    if config.sampler in ("tpe", "gp"):
        count = min(num_warm_up(config.num_trials), config.num_trials) - 1
        sampler = qmc.LatinHypercube(len(space), rng=np.random.default_rng(config.seed))
        for row in sampler.random(count):
            values = zip(space.items(), row, strict=True)
            point = {name: at(dist, float(u)) for (name, dist), u in values}
            yield {name: point[name] for name in config.draws(point)}


def at(distribution: BaseDistribution, u: float) -> Any:
    """The value of a distribution at position `u` in [0, 1)."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution)
    low, high = distribution.low, distribution.high
    value = low * (high / low) ** u if distribution.log else low + (high - low) * u
    return min(max(value, low), high)  # rounding may take it out of the range


def make_sampler(config: StudyConfig, num_earlier: int) -> optuna.samplers.BaseSampler:
    """The study's sampler. Its draws depend on the seed and on the number of earlier trials."""
    # A new seed for each session, or a resumed study would draw its first points again.
    seed = int(np.random.SeedSequence([config.seed, num_earlier]).generate_state(1)[0])
    samplers = optuna.samplers
    match config.sampler:
        case "tpe":
            return samplers.TPESampler(
                n_startup_trials=num_warm_up(config.num_trials),
                multivariate=True,
                constant_liar=True,
                seed=seed,
            )
        case "qmc":
            # Sobol' points for lr and gamma; choices are drawn independently. All sessions use
            # the same scramble, because the study remembers its position in the sequence.
            return samplers.QMCSampler(
                qmc_type="sobol",
                scramble=True,
                seed=config.seed % 2**32,  # it accepts no larger seed
                warn_independent_sampling=False,
            )
        case "random" | "given":  # "given" never draws anything
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(n_startup_trials=num_warm_up(config.num_trials), seed=seed)
        case "cmaes":
            return _CmaEs(seed=seed, warn_independent_sampling=False)
    raise ValueError(config.sampler)


class _CmaEs(optuna.samplers.CmaEsSampler):
    """CMA-ES that keeps its state in memory, because Optuna would unpickle it from the journal.

    In a new session it starts from scratch and learns from the earlier trials, one generation
    per trial.
    """

    _state = ""

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        self._state = optimizer_str
        return {}

    def _restore_optimizer(self, completed_trials: Any) -> Any:
        return pickle.loads(bytes.fromhex(self._state)) if self._state else None


def suggest(trial: optuna.Trial, config: StudyConfig) -> dict[str, Any]:
    """Draw the hyperparameters that `trial` lacks. Returns all of them."""
    params: dict[str, Any] = {}
    for name, distribution in space_of(config).items():
        if name not in config.draws(params):
            continue
        if isinstance(distribution, CategoricalDistribution):
            params[name] = trial.suggest_categorical(name, distribution.choices)
        elif isinstance(distribution, FloatDistribution):
            low, high = distribution.low, distribution.high
            params[name] = trial.suggest_float(name, low, high, log=distribution.log)
        elif isinstance(distribution, IntDistribution):
            params[name] = trial.suggest_int(name, distribution.low, distribution.high)
    return params
