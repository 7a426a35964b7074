"""Each hyperparameter from the command line to the optimizer and the tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from analysis.report import main
from study.config.hyperparameters import HYPERPARAMETERS, OPTIMIZERS
from study.config.space import distribution
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.results.tables import TRIAL_COLUMNS, load_study, read_table
from study.results.trials import rank_trials
from study.run import make_parser, new_config
from study.search.samplers import first_points, make_sampler, suggest
from study.training.kernels.adadelta import FusedAdadelta
from study.training.models import MaskDropout
from study.training.trainer import Trainer, make_optimizer
from tests.helpers.simulated import run_study

# Hyperparameters that some optimizers lack: a value, and torch's name.
OF_OPTIMIZERS = {"momentum": (0.5, "momentum"), "weight_decay": (0.25, "weight_decay")}


def search(*argv):
    return new_config(make_parser().parse_args(["--name", "n", *argv]))


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_each_has_a_field_a_column_and_an_option(name):
    each = HYPERPARAMETERS[name]
    assert hasattr(TrialConfig(), name)
    assert TRIAL_COLUMNS[name] == each.column
    assert getattr(make_parser().parse_args([]), name) is None
    for optimizer in OPTIMIZERS:
        made = getattr(TrialConfig(optimizer=optimizer), name)
        expected = optimizer if name == "optimizer" else each.default_for(optimizer)
        assert made == expected


@pytest.mark.parametrize("name", OF_OPTIMIZERS)
def test_an_optimizer_that_lacks_it_refuses_it(name):
    value, _ = OF_OPTIMIZERS[name]
    flag = "--" + name.replace("_", "-")
    refused = "the optimizer adadelta has no such setting; leave it out, or use sgd or adamw"
    with pytest.raises(UserError, match=f"^{name}: {refused}"):
        TrialConfig(**{name: value})
    with pytest.raises(UserError, match=f"^{flag}: {refused}"):
        search(flag, str(value))
    assert getattr(TrialConfig(), name) is None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", OF_OPTIMIZERS)
def test_it_reaches_the_optimizer(name, optimizer):
    value, key = OF_OPTIMIZERS[name]
    config = TrialConfig(optimizer=optimizer, **{name: value})
    parameters = [torch.zeros(1, requires_grad=True)]
    (group,) = make_optimizer(config, parameters, torch.device("cpu"), compiled=True).param_groups
    if (optimizer, key) == ("adamw", "momentum"):
        assert group["betas"] == (value, 0.999)
    else:
        assert group[key] == value


def test_the_defaults_are_those_of_before():
    parameters = [torch.zeros(1, requires_grad=True)]

    def group(optimizer):
        made = make_optimizer(
            TrialConfig(optimizer=optimizer), parameters, torch.device("cpu"), compiled=True
        )
        return made.param_groups[0]

    sgd = torch.optim.SGD(parameters, lr=1.0, momentum=0.9, nesterov=True).param_groups[0]
    for name in ("lr", "momentum", "dampening", "weight_decay", "nesterov"):
        assert group("sgd")[name] == sgd[name]
    adamw = torch.optim.AdamW(parameters, lr=1.0).param_groups[0]
    for name in ("lr", "betas", "eps", "weight_decay", "amsgrad"):
        assert group("adamw")[name] == adamw[name]


def test_without_momentum_sgd_still_trains(digits):
    config = TrialConfig(optimizer="sgd", momentum=0.0, batch_size=32, epochs=1, lr=0.1)
    record = Trainer(config, *digits).run_epoch()
    assert np.isfinite(record.train_loss)


@pytest.mark.parametrize("name", OF_OPTIMIZERS)
def test_it_is_drawn_only_for_optimizers_that_have_it(name):
    each = HYPERPARAMETERS[name]
    values = ["0.1", "0.2"]
    flag = "--" + name.replace("_", "-")
    config = search("--optimizer", "adadelta", "sgd", flag, *values, "--num-samples", "40")
    for point in first_points(config):
        assert (name in point) == (point["optimizer"] == "sgd")
    study = optuna.create_study(sampler=make_sampler(replace(config, sampler="random"), 0))
    made = [config.trial_config(suggest(study.ask(), config), n) for n in range(20)]
    assert {c.optimizer for c in made} == {"adadelta", "sgd"}
    for c in made:
        drawn = getattr(c, name)
        assert drawn is None if c.optimizer == "adadelta" else 0.1 <= drawn <= 0.2
    assert each.since == 3


@pytest.mark.usefixtures("without_ray")
def test_a_study_of_two_optimizers_is_run_and_resumed(tmp_path):
    options = [
        part for name in OF_OPTIMIZERS for part in ("--" + name.replace("_", "-"), "0.1", "0.2")
    ]
    config = search(
        "--optimizer",
        "adadelta",
        "sgd",
        *options,
        "--num-samples",
        "8",
        "--epochs",
        "3",
        "--scheduler",
        "none",
    )
    before = run_study(tmp_path / "n", config).trials
    assert set(before["optimizer"]) == {"adadelta", "sgd"}
    for name in OF_OPTIMIZERS:
        assert (before[name].isna() == (before["optimizer"] == "adadelta")).all()
    after = run_study(tmp_path / "n", replace(config, num_samples=10), resume=True).trials
    of_all = {"columns": "rank"}  # which later trials change
    pd.testing.assert_frame_equal(after.head(8).drop(**of_all), before.drop(**of_all))


@pytest.mark.usefixtures("without_ray")
def test_tables_of_an_earlier_format_read_as_if_each_trial_had_the_defaults(tmp_path):
    config = search("--optimizer", "sgd", "--num-samples", "3", "--epochs", "3")
    run_study(tmp_path / "n", config)
    file = tmp_path / "n" / "trials.parquet"
    later = [name for name, each in HYPERPARAMETERS.items() if each.since > 2]
    assert later
    table = read_table(file, TRIAL_COLUMNS)
    table.drop(columns=later).to_parquet(file, index=False)
    for name in later:
        expected = HYPERPARAMETERS[name].default_for("sgd")
        found = load_study(tmp_path / "n").trials[name]
        assert found.isna().all() if expected is None else (found == expected).all()
    table.drop(columns=["lr"]).to_parquet(file, index=False)
    with pytest.raises(UserError, match="column 'lr' is missing"):
        load_study(tmp_path / "n")


@pytest.mark.parametrize(
    ("model", "rate", "layers"),
    [
        ("cnn", None, [0.25, 0.5]),
        ("cnn", 0.3, [77 / 256, 77 / 256]),
        ("cnn", 0.0, [0.0, 0.0]),
        ("cnn", 0.99, [253 / 256, 253 / 256]),
        ("resnet18", None, [0.0]),
        ("resnet18", 0.25, [0.25]),
    ],
)
def test_the_dropout_rate_is_that_of_every_layer(model, rate, layers, digits):
    trainer = Trainer(TrialConfig(model=model, dropout_rate=rate, batch_size=8), *digits)
    found = [m.p for m in trainer.model.modules() if isinstance(m, MaskDropout)]
    assert found == layers


def test_a_rate_without_dropout_is_refused():
    with pytest.raises(UserError, match=r"dropout_rate: 0\.3 contradicts dropout = false"):
        TrialConfig(dropout=False, dropout_rate=0.3)
    for rate in (-0.1, 1, float("nan")):
        with pytest.raises(UserError, match=r"^--dropout-rate: "):
            distribution("dropout_rate", [rate], "--dropout-rate")


def test_it_is_searched_with_any_optimizer():
    config = search("--dropout-rate", "0", "0.5", "--num-samples", "20")
    _, *points = first_points(config)
    assert min(p["dropout_rate"] for p in points) < 0.125
    assert max(p["dropout_rate"] for p in points) > 0.375


def test_the_fused_adadelta_takes_nothing_that_it_would_ignore():
    with pytest.raises(TypeError, match="weight_decay"):
        FusedAdadelta([torch.zeros(1, requires_grad=True)], lr=1.0, weight_decay=0.1)


@pytest.mark.usefixtures("without_ray")
def test_the_page_shows_what_was_searched(tmp_path):
    config = search(
        "--optimizer",
        "adadelta",
        "sgd",
        "--momentum",
        "0.1",
        "0.2",
        "--num-samples",
        "10",
        "--epochs",
        "3",
        "--scheduler",
        "none",
    )
    trials = run_study(tmp_path / "n", config).trials
    assert main([str(tmp_path / "n"), "--output", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    best = rank_trials(trials).iloc[0]
    title = page.splitlines()[0]
    assert f", optimizer {best['optimizer']}" in title
    assert "optimizer adadelta, sgd." in page
    header = next(line for line in page.splitlines() if line.startswith("| trial "))
    assert "optimizer" in header
    assert "momentum" in header
    assert "Not shown: gamma, optimizer, momentum." in page  # by the map of all trials
    assert "with its own hyperparameters (lr, gamma, width, optimizer, momentum)" in page
    table = pd.read_csv(tmp_path / "page" / "tables" / "best_trials.csv")
    expected = rank_trials(trials).set_index("trial_id")["momentum"]
    found = table.set_index("trial_id")["momentum"]
    np.testing.assert_array_equal(found, expected.loc[found.index].astype(float))
