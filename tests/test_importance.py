"""Importance on searches with a planted truth."""

from __future__ import annotations

import warnings
from itertools import islice

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.fanova import fanova
from analysis.importance import BEST_SHARE, FEWEST_TRIALS, explained, importance, leader
from study.config.space import distribution, space_of
from study.results.tables import load_study
from tests.helpers.planted import TWO_OPTIMIZERS, planted
from tests.helpers.studies import ROOT

SEARCHES = 40


def searches(effect, trials=60):
    """Searches in which one hyperparameter matters, or none does."""
    rng = np.random.default_rng(7)
    for _ in range(SEARCHES):
        yield planted(
            trials,
            rng,
            lambda at: (
                0.97 - (0.03 * (at[effect] - 0.7) ** 2 if effect else 0) + rng.normal(0, 0.001)
            ),
        )


@pytest.mark.parametrize("effect", ["batch_size", "lr", "gamma", "width_mult"])
def test_what_matters_is_ranked_first(effect):
    found = [importance(study) for study in searches(effect)]
    first = [frame["hyperparameter"].iloc[0] for frame in found]
    assert np.mean([name == effect for name in first]) >= 0.95
    assert {leader(frame) for frame in found} <= {effect, None}  # nothing else is said to lead


def test_enough_trials_say_what_matters_most():
    rng = np.random.default_rng(2)
    study = planted(200, rng, lambda at: 0.9 + 0.09 * at["gamma"] + 0.01 * at["lr"])
    assert leader(importance(study)) == "gamma"


def test_where_nothing_matters_no_order_is_claimed():
    found = [importance(study) for study in searches(None)]
    assert np.mean([leader(frame) is None for frame in found]) >= 0.9
    # Chance gives 0, however many values a hyperparameter has.
    means = pd.concat(found).groupby("hyperparameter")["importance"].mean()
    assert means.abs().max() < 0.03
    inside = pd.concat(found).eval("low <= 0 <= high")
    assert inside.mean() > 0.85


def test_too_few_trials_have_no_importance():
    rng = np.random.default_rng(1)
    for count, known in ((FEWEST_TRIALS - 1, False), (FEWEST_TRIALS, True)):
        frame = importance(planted(count, rng, lambda at: at["lr"]))
        assert frame["importance"].notna().all() == known
        assert (leader(frame) is not None) <= known
    assert importance(planted(0, rng, lambda at: at["lr"]))["trials"].tolist() == [0] * 4


def test_explained_is_the_adjusted_share_of_variance():
    codes = np.array([0, 0, 1, 0, 1, 2, 2, 1, 2, 2, 1, 0])
    counts = np.array([[1] * 12, [0, 3, 1, 2, 1, 0, 0, 1, 1, 1, 1, 1]])
    for row, got in zip(counts, explained(codes, counts), strict=True):
        frame = pd.DataFrame({"code": codes.repeat(row), "best": [1] * 3 + [0] * 9})
        within = frame["best"] - frame.groupby("code")["best"].transform("mean")
        left = (within**2).sum() / (12 - frame["code"].nunique())
        assert got == pytest.approx(1 - left / frame["best"].var())


def test_a_perfect_split_is_one():
    codes = np.repeat([0, 1], [10, 30])
    assert explained(codes, np.ones(40, int)) == pytest.approx(1)


def test_a_hyperparameter_that_only_some_trials_have_is_judged_among_these():
    rng = np.random.default_rng(3)
    study = planted(120, rng, lambda at: at["momentum"], TWO_OPTIMIZERS)
    frame = importance(study).set_index("hyperparameter")
    assert frame.loc["momentum", "trials"] == study.trials["momentum"].notna().sum() < 120
    assert frame.loc["optimizer", "trials"] == 120


def test_diverged_trials_count_as_the_worst_and_crashed_ones_not_at_all():
    rng = np.random.default_rng(3)
    study = planted(80, rng, lambda at: at["gamma"])
    high = study.trials["lr"] > 0.9
    study.trials.loc[high, "status"] = "diverged"
    apart = importance(study).set_index("hyperparameter")
    study.trials.loc[high, "status"] = "failed"
    left_out = importance(study).set_index("hyperparameter")
    assert apart.loc["lr", "trials"] == 80
    assert left_out.loc["lr", "trials"] == 80 - high.sum()
    assert apart.loc["lr", "importance"] > left_out.loc["lr", "importance"]


def test_optuna_agrees_on_a_planted_effect():
    study = planted(100, np.random.default_rng(4), lambda at: 0.9 + 0.09 * at["gamma"])
    space = space_of(study.study.config)
    other = optuna.create_study(direction="maximize")
    for trial in study.trials.to_dict("records"):
        params = {name: trial[name] for name in space}
        value = trial["last_eval_accuracy"]
        other.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    theirs = optuna.importance.get_param_importances(other, evaluator=evaluator)
    ours = importance(study)["hyperparameter"]
    assert next(iter(theirs)) == ours.iloc[0] == "gamma"


@pytest.mark.parametrize("effect", ["lr", "batch_size"])
def test_fanova_agrees_on_a_planted_effect(effect):
    rng = np.random.default_rng(4)
    study = planted(60, rng, lambda at: 0.9 + 0.09 * at[effect] + rng.normal(0, 0.005))
    frame = fanova(study)
    assert leader(frame) == leader(importance(study)) == effect
    assert frame["importance"].iloc[0] > 0.8
    assert frame["importance"].sum() < 1 + 1e-9


def test_where_nothing_matters_fanova_claims_no_order():
    claimed = [leader(fanova(study)) for study in islice(searches(None, trials=40), 5)]
    assert sum(name is not None for name in claimed) <= 1


def test_one_diverged_trial_does_not_decide_fanova():
    rng = np.random.default_rng(4)
    study = planted(60, rng, lambda at: 0.9 + 0.09 * at["gamma"])
    study.trials.loc[study.trials["lr"].idxmax(), "status"] = "diverged"
    assert leader(fanova(study)) == "gamma"


def test_fanova_has_the_rows_of_importance():
    rng = np.random.default_rng(3)
    for count in (0, FEWEST_TRIALS - 1, 90):
        study = planted(count, rng, lambda at: at["lr"], TWO_OPTIMIZERS)
        ours, theirs = (f(study).set_index("hyperparameter") for f in (importance, fanova))
        theirs = theirs.loc[ours.index]
        assert theirs["trials"].tolist() == ours["trials"].tolist()
        assert theirs["low"].isna().tolist() == ours["importance"].isna().tolist()
        known = theirs.dropna()
        assert (known["low"] <= known["importance"]).all()
        assert (known["importance"] <= known["high"]).all()


def test_fanova_of_equal_trials_is_zero():
    frame = fanova(planted(40, np.random.default_rng(3), lambda at: 0.9))
    assert (frame[["importance", "low", "high"]] == 0).all(axis=None)
    assert leader(frame) is None


def test_the_committed_search_has_too_few_trials_to_rank():
    frame = importance(load_study(ROOT / "results" / "paper" / "search"))
    assert frame["trials"].tolist() == [40] * 4
    assert frame["importance"].notna().all()
    assert leader(frame) is None
    assert leader(fanova(load_study(ROOT / "results" / "paper" / "search"))) is None


def test_a_forest_that_sees_no_difference_gives_no_share():
    values = {"batch_size": [64, 512], "lr": [1.0], "gamma": [0.7], "width_mult": [1.0]}
    space = {name: distribution(name, each) for name, each in values.items()}
    study = planted(40, np.random.default_rng(0), lambda at: 0.9, space)
    study.trials["last_eval_accuracy"] = np.linspace(0.9, 0.95, 40)
    study.trials["batch_size"] = [512] + [64] * 39
    assert fanova(study)["importance"].between(0, 1).all()
