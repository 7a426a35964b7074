from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from study.config.space import (
    DEFAULT_SPACE,
    default_space,
    describe,
    distribution,
    paper_point,
    space_from_json,
    space_to_json,
)
from study.console.errors import UserError


def test_default_space():
    assert {name: describe(dist) for name, dist in DEFAULT_SPACE.items()} == {
        "batch_size": "32, 64, 128, 256, 512, 1024",
        "lr": "0.03 to 3 (log)",
        "gamma": "0.5 to 1",
        "width_mult": "0.5, 1, 2",
    }


def test_another_optimizer_has_other_learning_rates():
    assert default_space("adadelta") == dict(DEFAULT_SPACE)
    assert describe(default_space("sgd")["lr"]) == "0.003 to 0.3 (log)"
    assert describe(default_space("adamw")["lr"]) == "0.0001 to 0.01 (log)"


def test_of_several_optimizers_the_learning_rates_of_all_are_searched():
    assert describe(default_space("sgd", "adadelta")["lr"]) == "0.003 to 3 (log)"
    assert describe(default_space("adamw", "sgd")["lr"]) == "0.0001 to 0.3 (log)"


def test_a_single_value_fixes():
    assert distribution("batch_size", [64]).single()
    assert distribution("lr", [0.5]).single()
    assert describe(distribution("lr", [0.5])) == "0.5"


def test_only_lr_is_log():
    assert distribution("lr", [0.1, 2]).log
    assert not distribution("gamma", [0.1, 1]).log


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("lr", [2.0, 0.1], "swap them"),
        ("lr", [0.1, 0.2, 0.3], "got 3 values"),
        ("lr", [-1.0, 1.0], "above zero"),
        ("gamma", [0.5, 1.1], "raise the learning rate"),
        ("batch_size", [64, 64], "repeats a value"),
        ("batch_size", [64, 0], "above zero"),
        ("batch_size", [60000], "larger than the training split"),
        ("width_mult", [0.0], "above zero"),
        (
            "optimizer",
            ["sgd", "adam"],
            r"\(did you mean 'adamw'\?\); choose one of adadelta",
        ),
        ("optimizer", ["sgd", "sgd"], "repeats a value"),
    ],
)
def test_impossible_spaces_are_refused(name, values, reason):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{flag}: .*{reason}"):
        distribution(name, values, flag)


def test_json_round_trip():
    assert space_from_json(space_to_json(DEFAULT_SPACE)) == dict(DEFAULT_SPACE)


def test_paper_point_is_the_papers_configuration_or_the_nearest():
    report = {"batch_size": 512, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}
    assert paper_point(DEFAULT_SPACE, "adadelta") == report
    narrow = {
        "batch_size": CategoricalDistribution((32, 64)),
        "lr": FloatDistribution(0.1, 0.5, log=True),
        "gamma": FloatDistribution(0.9, 1.0),
        "width_mult": CategoricalDistribution((2.0,)),
    }
    assert paper_point(narrow, "adadelta") == {
        "batch_size": 64,
        "lr": 0.5,
        "gamma": 0.9,
        "width_mult": 2.0,
    }
