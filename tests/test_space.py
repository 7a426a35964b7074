from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from study.config import UserError
from study.space import (
    DEFAULT_SPACE,
    choices,
    default_space,
    describe,
    interval,
    report_point,
    space_from_json,
    space_to_json,
)


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


def test_a_single_value_fixes():
    assert choices("batch_size", [64], "--batch-size").single()
    assert interval("lr", [0.5], "--lr").single()
    assert describe(interval("lr", [0.5], "--lr")) == "0.5"


def test_only_lr_is_log():
    assert interval("lr", [0.1, 2], "--lr").log
    assert not interval("gamma", [0.1, 1], "--gamma").log


@pytest.mark.parametrize(
    ("make", "name", "values", "reason"),
    [
        (interval, "lr", [2.0, 0.1], "swap them"),
        (interval, "lr", [0.1, 0.2, 0.3], "got 3 values"),
        (interval, "lr", [-1.0, 1.0], "above zero"),
        (interval, "gamma", [0.5, 1.1], "raise the learning rate"),
        (choices, "batch_size", [64, 64], "given twice"),
        (choices, "batch_size", [64, 0], "above zero"),
        (choices, "batch_size", [60000], "larger than the training split"),
        (choices, "width_mult", [0.0], "above zero"),
    ],
)
def test_impossible_spaces_are_refused(make, name, values, reason):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{flag}: .*{reason}"):
        make(name, values, flag)


def test_json_round_trip():
    assert space_from_json(space_to_json(DEFAULT_SPACE)) == dict(DEFAULT_SPACE)


def test_report_point_is_the_reports_configuration_or_the_nearest():
    report = {"batch_size": 512, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}
    assert report_point(DEFAULT_SPACE) == report
    narrow = {
        "batch_size": CategoricalDistribution((32, 64)),
        "lr": FloatDistribution(0.1, 0.5, log=True),
        "gamma": FloatDistribution(0.9, 1.0),
        "width_mult": CategoricalDistribution((2.0,)),
    }
    assert report_point(narrow) == {
        "batch_size": 64, "lr": 0.5, "gamma": 0.9, "width_mult": 2.0,
    }  # fmt: skip
