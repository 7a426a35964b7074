from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.config.study import SEED_FAMILIES, trial_seed
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import shown
from study.results.study_file import StudyFile

SPACE = space_to_json(DEFAULT_SPACE)


def test_defaults_are_the_reports_preset():
    config = TrialConfig()
    assert (config.batch_size, config.lr, config.gamma, config.epochs) == (512, 1.0, 0.7, 15)
    assert (config.optimizer, config.width_mult, config.model) == ("adadelta", 1.0, "cnn")


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrialConfig().lr = 2.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("batch_size", 0, "not a whole number above zero"),
        ("batch_size", -64, "not a whole number above zero"),
        ("batch_size", 64.5, "not a whole number above zero"),
        ("batch_size", NUM_TRAIN_EXAMPLES + 1, "larger than the training split"),
        ("batch_size", None, "not a whole number above zero"),
        ("lr", None, "not a finite number above zero"),
        ("optimizer", None, "choose one of adadelta"),
        ("lr", 0.0, "above zero"),
        ("lr", float("nan"), "not a finite number"),
        ("lr", float("inf"), "not a finite number"),
        ("lr", 10**400, "out of range; use 1e-08 to 1e\\+20"),
        ("lr", 5e-324, "out of range"),
        ("batch_size", 10**400, "too large"),
        ("epochs", 10**400, "too large; use at most 1000000000"),
        ("width_mult", 1e308, "out of range; use 0.05 to 32"),
        ("width_mult", 1e-9, "out of range"),
        ("gamma", 10**5000, "<int> too large to show"),
        ("gamma", 0.0, "above zero"),
        ("gamma", 1.5, "raise the learning rate"),
        ("width_mult", -1.0, "above zero"),
        ("dropout_rate", -0.1, "not a finite number of zero or above"),
        ("epochs", 0, "above zero"),
        ("epochs", True, "not a whole number"),
        ("model", "vgg", "choose one of cnn, resnet18"),
        ("dataset", "cifar", "choose one of mnist"),
        ("optimizer", "adam", "choose one of adadelta"),
        ("precision", "fp16", "choose one of auto"),
        ("dropout", 0.5, "neither true nor false"),
        ("batch_norm", "yes", "neither true nor false"),
        ("train_examples", 0, "above zero"),
        ("train_examples", 60_001, "more than the 60000 training images"),
    ],
    ids=shown,
)
def test_impossible_trials_are_refused(field, value, reason):
    with pytest.raises(UserError, match=reason) as error:
        TrialConfig(**{field: value})
    assert shown(value).removesuffix("...") in str(error.value)
    assert "\n" not in str(error.value)


def test_the_whole_training_split_is_a_possible_batch():
    assert TrialConfig(batch_size=NUM_TRAIN_EXAMPLES).batch_size == NUM_TRAIN_EXAMPLES


def test_no_two_families_share_a_seed():
    seeds = [trial_seed(1, k, family) for family in SEED_FAMILIES for k in range(1000)]
    assert len(set(seeds)) == len(seeds)
    assert trial_seed(1, 7) == int(np.random.SeedSequence([1, 7]).generate_state(1)[0])


def test_study_makes_its_trials():
    study = SearchConfig("s", SPACE, model="resnet18", epochs=3, optimizer="sgd", precision="fp32")
    params = {"batch_size": 64, "lr": 0.5, "gamma": 0.9, "width_mult": 2.0}
    trial = study.trial_config(params, 7)
    assert trial == TrialConfig(
        model="resnet18",
        epochs=3,
        optimizer="sgd",
        precision="fp32",
        seed=trial_seed(1, 7),
        **params,
    )
    assert SearchConfig(**study.to_json()) == study


def choice(*values: Any) -> dict[str, Any]:
    return {"name": "CategoricalDistribution", "attributes": {"choices": [*values]}}


def between(low: Any, high: Any, **more: Any) -> dict[str, Any]:
    attributes = {"step": None, "low": low, "high": high, "log": False, **more}
    return {"name": "FloatDistribution", "attributes": attributes}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("name", name)
            for name in (
                "",
                "..",
                "../../ESCAPED/x",
                "/tmp/x",
                "$(touch x)",
                "a b",
                "a\nb",
                "\x1b[31m",
                "-",
                "é" * 128,
                3,
                None,
                ["a"],
                True,
            )
        ),
        *(("seed", seed) for seed in (-1, 1.0, True, None, "1")),
        *(("num_samples", count) for count in (0, True, 2.0, "40", None, 10**400)),
        *(("epochs", count) for count in (0, True, [3])),
        *(("model", model) for model in (["cnn"], None, {}, "vgg")),
        *(
            ("space", space)
            for space in (
                None,
                [],
                "lr",
                {},
                {**SPACE, "depth": choice(1)},
                {"lr": SPACE["lr"]},
            )
        ),
        *(
            ("space", {**SPACE, "lr": lr})
            for lr in (
                None,
                0.1,
                [],
                {},
                choice(0.1),
                {"name": "FloatDistribution"},
                between(0.1, "1"),
                between(1, 0.1),
                between(0.0, 1),
                between(0.1, float("nan")),
                between(0.1, 10**400),
                between(0.1, 1, log="yes"),
                between(0.1, 1, step=0.1),
                between(0.1, 1, more=1),
                {**between(0.1, 1), "more": 1},
            )
        ),
        *(
            ("space", {**SPACE, "batch_size": sizes})
            for sizes in (
                between(32, 64),
                choice(),
                choice(64, 64),
                choice("64"),
                choice(64.5),
                choice([64]),
                choice(True),
                choice(0),
                {"name": "CategoricalDistribution", "attributes": []},
            )
        ),
    ],
)
def test_what_a_file_of_somebody_else_says_is_checked(field, value):
    with pytest.raises(UserError) as error:
        SearchConfig(**{"name": "s", "space": SPACE, field: value})
    assert str(error.value).isprintable()


def test_the_committed_studies_are_read():
    folders = sorted((Path(__file__).parents[1] / "results" / "paper").iterdir())
    assert len(folders) >= 6
    for folder in folders:
        assert StudyFile.read(folder).config.name == folder.name
