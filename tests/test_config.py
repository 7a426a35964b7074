from __future__ import annotations

import dataclasses

import pytest

from study.config import NUM_TRAIN_EXAMPLES, StudyConfig, TrialConfig, UserError, trial_seed


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
        ("lr", 0.0, "above zero"),
        ("lr", float("nan"), "not a finite number"),
        ("lr", float("inf"), "not a finite number"),
        ("gamma", 0.0, "above zero"),
        ("gamma", 1.5, "raise the learning rate"),
        ("width_mult", -1.0, "above zero"),
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
)
def test_impossible_trials_are_refused(field, value, reason):
    with pytest.raises(UserError, match=reason) as error:
        TrialConfig(**{field: value})
    assert str(value) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_whole_training_split_is_a_possible_batch():
    assert TrialConfig(batch_size=NUM_TRAIN_EXAMPLES).batch_size == NUM_TRAIN_EXAMPLES


def test_study_makes_its_trials():
    study = StudyConfig("s", {}, model="resnet18", epochs=3, optimizer="sgd", precision="fp32")
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
    assert StudyConfig(**study.to_json()) == study
