from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from study.config.search import SAMPLERS, SearchConfig
from study.config.space import DEFAULT_SPACE, default_space, distribution, space_to_json
from study.search.samplers import at, first_points, make_sampler, suggest
from study.search.searcher import open_optuna_study

RECORDED = json.loads(Path(__file__).with_name("points.json").read_text())


def config(space=DEFAULT_SPACE, **kwargs):
    return SearchConfig("s", space_to_json(space), **{"num_samples": 40, **kwargs})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_reports_configuration_is_first(sampler):
    point = next(first_points(config(sampler=sampler)))
    assert point == {"batch_size": 512, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_the_warm_up_covers_the_space_evenly(sampler):
    _, *points = first_points(config(sampler=sampler))
    assert len(points) == 9  # together with the paper's point, a quarter of 40
    sizes = Counter(p["batch_size"] for p in points)
    assert sorted(sizes) == [32, 64, 128, 256, 512, 1024]
    assert max(sizes.values()) == 2
    assert set(Counter(p["width_mult"] for p in points).values()) == {3}
    thirds = Counter(int(3 * np.log(p["lr"] / 0.03) / np.log(100)) for p in points)
    assert thirds == {0: 3, 1: 3, 2: 3}
    assert all(0.5 <= p["gamma"] < 1 for p in points)


def test_the_warm_up_follows_the_seed():
    first, again, other = (list(first_points(config(seed=seed))) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("num_samples", "count"), [(1, 1), (3, 3), (8, 4), (20, 5), (500, 10)])
def test_no_more_first_points_than_trials(num_samples, count):
    assert len(list(first_points(config(num_samples=num_samples)))) == count


@pytest.mark.parametrize("sampler", ["random", "qmc", "cmaes"])
def test_samplers_that_need_no_warm_up_get_none(sampler):
    assert len(list(first_points(config(sampler=sampler)))) == 1


def test_places_in_a_distribution():
    assert at(CategoricalDistribution((1, 2, 3)), 0.0) == 1
    assert at(CategoricalDistribution((1, 2, 3)), 0.999) == 3
    assert at(FloatDistribution(0.01, 1, log=True), 0.5) == pytest.approx(0.1)
    assert at(FloatDistribution(0.5, 1), 0.5) == 0.75
    assert at(FloatDistribution(0.3, 0.3, log=True), 0.7) == 0.3


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_searches_the_whole_space(name, recwarn):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(config(sampler=name, num_samples=16), 0)
    )
    for _ in range(16):
        trial = study.ask(dict(DEFAULT_SPACE))
        study.tell(trial, trial.params["gamma"])
    assert len({t.params["lr"] for t in study.trials}) > 8
    assert len({t.params["batch_size"] for t in study.trials}) > 1


def test_sobol_points_of_a_large_seed():
    def draw(seed):
        sampler = make_sampler(config(sampler="qmc", seed=seed), 0)
        study = optuna.create_study(sampler=sampler)
        return [study.ask(dict(DEFAULT_SPACE)).params["gamma"] for _ in range(3)]

    assert draw(2**32 + 5) == draw(5) != draw(6)


def test_another_session_draws_other_points():
    def draw(num_earlier):
        study = optuna.create_study(sampler=make_sampler(config(), num_earlier))
        return study.ask(dict(DEFAULT_SPACE)).params

    assert draw(0) == draw(0)
    assert draw(0) != draw(5)


@pytest.mark.parametrize("which", RECORDED)
def test_a_default_search_draws_the_points_that_it_always_drew(which, tmp_path):
    """Recorded at commit 6738bd7. A new hyperparameter must not change them."""
    optimizer, sampler = which.split()
    expected = RECORDED[which]
    search = config(
        default_space(optimizer), num_samples=len(expected), optimizer=optimizer, sampler=sampler
    )
    study = open_optuna_study(tmp_path, search)
    for number, values in enumerate(expected):
        trial = study.ask()
        params = suggest(trial, search)
        assert list(params) == ["batch_size", "lr", "gamma", "width_mult"]
        np.testing.assert_allclose(
            list(params.values()),
            values,
            rtol=1e-12,
            err_msg=(
                f"trial {number} of a default search ({which}, seed 1) has changed; a study "
                "begun by an earlier version would go on differently: keep the order of the space"
            ),
        )
        study.tell(trial, 1 - abs(math.log10(params["lr"])) / 10 - params["gamma"] / 100)


def test_what_an_optimizer_lacks_is_not_drawn():
    space = {
        **default_space("sgd", "adadelta"),
        "optimizer": distribution("optimizer", ["sgd", "adadelta"]),
    }
    search = config(space, optimizer="sgd", sampler="random")
    study = optuna.create_study(sampler=make_sampler(search, 0))
    drawn = [suggest(study.ask(), search) for _ in range(20)]
    assert {params["optimizer"] for params in drawn} == {"sgd", "adadelta"}
    for params in drawn:
        assert search.trial_config(params, 0).optimizer == params["optimizer"]
