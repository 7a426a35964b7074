"""The shrunk accuracies against plain sums and planted truths; what a search says at its end."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.config.hyperparameters import HYPERPARAMETERS
from study.console.terminal import Terminal
from study.results import shrinkage
from study.results.shrinkage import DEFAULT_SD, likely_best, seed_noise, shrink
from study.results.study_file import StudyFile
from study.results.tables import as_table, load_study
from study.run import best_table, show_outcome

PAPER = Path(__file__).parents[1] / "results" / "paper"
SD = 0.0008


def search(accuracies, **columns):
    """The trials of a search, all complete unless `columns` say otherwise."""
    n = len(accuracies)
    rows = {
        "trial_id": [f"trial_{k:05d}" for k in range(n)],
        "status": "complete",
        "model": "cnn",
        "optimizer": "adadelta",
        "batch_size": 64,
        "lr": np.linspace(0.1, 1, n),
        "gamma": 0.7,
        "width_mult": 1.0,
        "epochs": 15,
        "seed": range(n),
        "epochs_run": 15,
        "steps_run": 1,
        "last_eval_loss": 0.05,
        "last_eval_accuracy": accuracies,
    }
    return as_table("trials", {**rows, **columns})


def plain_posterior(accuracies, sd):
    """The posterior as the docstring says it, trial by trial, on a grid of its own."""
    x = np.array(accuracies)
    grid = np.arange(x.min() - 4 * sd, x.max() + 4 * sd, sd / 200) + sd / 400
    seen = [np.exp(-0.5 * ((a - grid) / sd) ** 2) for a in x]
    fits = []
    for mode in np.arange(x.max(), x.min() - sd / 4, -sd / 2):
        ends = [(mode - w * sd, mode) for w in (0.5, 1, 2, 4)]
        ends += [(mode, mode + w * sd) for w in (0.25, 0.5, 1, 2)]
        uniform = [((grid > low) & (grid < high)) / (high - low) for low, high in ends]
        likelihood = np.array([[(s * u).mean() for u in uniform] for s in seen])
        weights = np.full(len(ends), 1 / len(ends))
        for _ in range(250):
            shares = likelihood * weights
            shares /= shares.sum(axis=1, keepdims=True)
            weights = shares.sum(axis=0) + 0.01
            weights /= weights.sum()
        fits.append((np.prod(likelihood @ weights), weights @ np.array(uniform)))
    prior = sum(chance * density for chance, density in fits)
    posterior = np.array([s * prior for s in seen])
    return grid, posterior / posterior.sum(axis=1, keepdims=True)


def test_against_plain_sums_and_draws():
    accuracies = [0.9921, 0.9917, 0.9916, 0.9910, 0.9898]
    got = shrink(search(accuracies), SD)
    grid, posterior = plain_posterior(accuracies, SD)
    mean = posterior @ grid
    np.testing.assert_allclose(got["expected"], mean, atol=SD / 200)
    spread = np.sqrt(posterior @ grid**2 - mean**2)
    np.testing.assert_allclose(got["sd"], spread, atol=SD / 100)
    rng = np.random.default_rng(1)
    draws = np.array([rng.choice(grid, 100_000, p=p) for p in posterior])
    wins = np.bincount(draws.argmax(axis=0), minlength=5) / 100_000
    np.testing.assert_allclose(got["p_best"], wins, atol=0.01)
    better = (draws > draws[0]).mean(axis=1)
    np.testing.assert_allclose(got["p_better"], better, atol=0.01)


def test_shift_and_order_change_nothing_else():
    accuracies = np.array([0.9921, 0.9917, 0.9916, 0.9910, 0.9898, 0.9840])
    got = shrink(search(accuracies), SD)
    shifted = shrink(search(accuracies - 0.05), SD)
    np.testing.assert_allclose(shifted["expected"], got["expected"] - 0.05, atol=1e-9)
    np.testing.assert_allclose(shifted["p_best"], got["p_best"], atol=1e-9)
    turned = search(accuracies).iloc[::-1]
    pd.testing.assert_frame_equal(shrink(turned, SD), got)


def test_the_estimates_keep_the_order_and_pull_the_best_down():
    accuracies = [0.9921, 0.9917, 0.9916, 0.9910, 0.9840, 0.95]
    got = shrink(search(accuracies), SD)
    assert got["trial_id"].tolist() == [f"trial_{k:05d}" for k in range(6)]
    assert got["expected"].is_monotonic_decreasing
    assert got["p_best"].is_monotonic_decreasing
    assert got["p_best"].sum() == pytest.approx(1)
    assert got["expected"].iloc[0] < 0.9921
    assert got["told_apart"].tolist() == [False, False, False, False, True, True]
    # A trial far from all others has none to be shrunk towards.
    assert got["expected"].iloc[-1] == pytest.approx(0.95, abs=SD / 4)


def test_with_little_noise_little_is_shrunk():
    got = shrink(search([0.99, 0.98, 0.97]), 0.0001)
    np.testing.assert_allclose(got["expected"], got["accuracy"], atol=0.00005)
    assert got["p_best"].iloc[0] == pytest.approx(1)
    assert got["told_apart"].tolist() == [False, True, True]


@pytest.mark.parametrize("value", [0.1, 0.5, 1.0])
def test_equal_accuracies_are_equally_likely(value):
    got = shrink(search([value] * 4), SD)
    np.testing.assert_allclose(got["p_best"], 0.25)
    np.testing.assert_allclose(got["expected"], value, atol=SD)
    assert got["expected"].between(0, 1).all()
    assert not got["told_apart"].any()


def test_other_trials_do_not_count():
    accuracies = [0.9921, 0.9917, 0.9999, 0.9990, np.nan]
    status = ["complete", "complete", "pruned", "interrupted", "complete"]
    got = shrink(search(accuracies, status=status), SD)
    pd.testing.assert_frame_equal(got, shrink(search(accuracies[:2]), SD))


def test_a_tail_of_good_trials_is_no_luck():
    """The best are far from the mode of the others, by much more than noise."""
    rng = np.random.default_rng(1)
    got = shrink(search([0.990, *rng.normal(0.98, 0.002, 60)]), SD)
    assert got["expected"].iloc[0] > 0.990 - SD


def test_many_trials_over_a_wide_range_have_an_answer():
    rng = np.random.default_rng(1)
    got = shrink(search([*rng.normal(0.98, 0.003, 99), 0.1]), SD)
    assert np.isfinite(got[["expected", "sd", "p_best", "p_better"]]).all(axis=None)


# Planted truths, in points: normal ones, and a search's long tail.
TRUTHS = {
    "normal": lambda rng: 99 + 0.08 * rng.standard_normal(12),
    "skewed": lambda rng: 99.15 - 0.3 * rng.exponential(size=12),
}
TOO_SURE = {"normal": 0.06, "skewed": 0.15}  # as the docstring says


@pytest.fixture(scope="module", params=TRUTHS)
def simulated(request):
    """One row per simulated search: errors in points, the probability and whether it was right."""
    rng = np.random.default_rng(1)
    needed = ["trial_id", "status", "last_eval_accuracy", "last_eval_loss"]
    slim = pd.DataFrame(search([0.0] * 12)[needed].to_dict("list"))  # quicker
    rows = []
    for _ in range(250):
        truth = TRUTHS[request.param](rng)
        accuracy = (truth + 100 * SD * rng.standard_normal(12)) / 100
        got = shrink(slim.assign(last_eval_accuracy=accuracy), SD)
        numbers = got["trial_id"].str[-2:].astype(int).to_numpy()
        chosen, first = truth[numbers[0]], got.iloc[0]
        rows.append(
            {
                "raw": 100 * first["accuracy"] - chosen,
                "shrunk": 100 * first["expected"] - chosen,
                "p_best": first["p_best"],
                "is_best": chosen == truth.max(),
                "kept": not got["told_apart"][numbers == truth.argmax()].iloc[0],
            }
        )
    return request.param, pd.DataFrame(rows)


def test_the_winners_estimate_is_nearly_unbiased(simulated):
    _, simulated = simulated
    assert simulated["raw"].mean() > 0.05
    assert abs(simulated["shrunk"].mean()) < 0.02


def test_the_probability_is_about_how_often_it_is_right(simulated):
    kind, simulated = simulated
    too_sure = simulated["p_best"].mean() - simulated["is_best"].mean()
    assert -0.06 < too_sure < TOO_SURE[kind]
    sure = simulated["p_best"] > simulated["p_best"].median()
    assert simulated["is_best"][sure].mean() > simulated["is_best"][~sure].mean()


def test_the_truly_best_is_rarely_told_apart(simulated):
    assert simulated[1]["kept"].mean() > 0.94


# The noise.


def test_noise_is_measured_on_replicates():
    accuracies = np.array([0.990, 0.991, 0.992, 0.980, 0.981, 0.979, 0.95])
    noise = seed_noise(search(accuracies, lr=[1, 1, 1, 2, 2, 2, 3]))
    deviations = np.array([-0.001, 0, 0.001, 0, 0.001, -0.001])
    assert noise.sd == pytest.approx(np.sqrt((deviations**2).sum() / 4))
    assert "0.10 points, measured on 6 trials of 2 configurations" in noise.words


def test_too_few_replicates_leave_the_default():
    noise = seed_noise(search([0.990, 0.991, 0.992, 0.98], lr=[1, 1, 1, 2]))
    assert noise.sd == DEFAULT_SD
    assert "0.08 points. This is assumed" in noise.words


def test_a_seed_twice_is_no_replicate():
    trials = search([0.99] * 6, lr=1.0, seed=1)
    assert seed_noise(trials).sd == DEFAULT_SD
    assert seed_noise(search([0.99] * 6, lr=1.0)).sd == shrinkage.SMALLEST_SD


def test_the_default_is_that_of_the_committed_comparisons():
    squares = freedom = 0
    for name in ("batch-size", "schedule", "regularization"):
        trials = load_study(PAPER / name).trials
        # The arm gamma-0.7 has the runs of batch size 512.
        cnn = trials[(trials["model"] == "cnn") & (trials["arm"] != "gamma-0.7")]
        for _, accuracy in cnn.groupby("arm")["last_eval_accuracy"]:
            squares += ((accuracy - accuracy.mean()) ** 2).sum()
            freedom += len(accuracy) - 1
    assert freedom == 52
    assert round(float(np.sqrt(squares / freedom)), 4) == DEFAULT_SD


# The words.


def test_the_committed_search():
    trials = load_study(PAPER / "search").trials
    got = shrink(trials, seed_noise(trials).sd)
    first = got.iloc[0]
    found = (first["trial_id"], round(100 * first["expected"], 2), round(first["p_best"], 2))
    alike = len(got) - 1 - int(got["told_apart"].sum())
    assert (*found, alike) == ("trial_00018", 99.15, 0.21, 8), (
        "The answer of results/paper/search changed. If the estimate was meant to change, check it "
        "with the simulations above, and put the new values here, in README.md "
        "and in docs/results.md. If the search was replaced, only the values change."
    )


def test_the_answer_in_words():
    accuracies = [0.9921, 0.9917, 0.9916, 0.9840]
    got = shrink(search(accuracies), SD)
    assert likely_best(got) == (
        f"Likely best: trial_00000 with probability {got['p_best'].iloc[0]:.2f}; 2 of the 3 other "
        f"complete trials cannot be told apart from it. Expect {got['expected'].iloc[0]:.2%} from "
        "a new seed, on the validation images."
    )


def test_one_complete_trial_is_nothing_to_shrink():
    got = shrink(search([0.99, 0.999], status=["complete", "pruned"]), SD)
    assert got["accuracy"].tolist() == [0.99]
    assert got[["expected", "sd", "p_best", "p_better"]].isna().all(axis=None)
    assert likely_best(got) == (
        "Only trial_00000 is complete, so there is nothing to compare it with and its accuracy is "
        "not shrunk."
    )


def test_no_complete_trial_is_no_best_one():
    got = shrink(search([0.999], status="pruned"), SD)
    assert got.empty
    assert likely_best(got) == "No trial is complete yet, so there is no best one."


@pytest.fixture
def closing(tmp_path, monkeypatch, capsys):
    """What `show_outcome` prints in 80 columns at the end of a search with given trials."""

    def of(trials):
        loaded = replace(load_study(PAPER / "search"), trials=trials)
        monkeypatch.setattr("study.results.health.checks.show_health", lambda *_, **__: None)
        monkeypatch.setattr("study.results.tables.load_study", lambda _: loaded)
        config = StudyFile.read(PAPER / "search").config
        session = types.SimpleNamespace(
            storage=types.SimpleNamespace(folder=Path("results/a")),
            console=Terminal(width=80),
            config=config,
            options=types.SimpleNamespace(address=None),
        )
        outcome = types.SimpleNamespace(
            ended=1, planned=1, seconds=9, stopped=None, counts={"failed": 0}, all_failed=False
        )
        show_outcome(session, outcome, config)
        return capsys.readouterr().out

    return of


def test_the_end_of_a_search(closing):
    out = closing(load_study(PAPER / "search").trials)
    lines = [line.rstrip() for line in out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "trial       accuracy expected loss   batch lr     gamma  width P(best)" in lines
    assert "trial_00018 99.22%   99.15%   0.0336 256   2.647  0.8931 2     0.21" in lines
    words = " ".join(out.split())
    assert "Likely best: trial_00018 with probability 0.21; 8 of the 11 other complete" in words
    assert "Expect 99.15% from a new seed, on the validation images." in words
    assert "a standard deviation of 0.08 points. This is assumed" in words
    assert "Next: python -m study.finalize results/a" in words


def test_the_end_of_a_search_with_one_complete_trial(closing):
    out = closing(search([0.99, 0.999], status=["complete", "pruned"]))
    assert "trial_00000 99.00%            0.0500" in out
    assert "trial_00001" not in out
    assert "Only trial_00000 is complete" in out
    assert "nan" not in out.lower()
    assert "study.finalize" not in out


def test_the_end_of_a_search_without_a_complete_trial(closing):
    out = closing(search([0.999], status="pruned"))
    assert "No trial is complete yet, so there is no best one." in out
    assert "99.9" not in out
    assert "study.finalize" not in out


def test_the_table_fits_and_loses_nothing_if_everything_was_searched(capsys):
    given = {"momentum": 0.9123, "weight_decay": 0.0001235, "dropout_rate": 0.1235}
    trials = search([0.99, 0.98], **given)
    table = best_table(shrink(trials, SD), trials, list(HYPERPARAMETERS))
    Terminal(width=80).print(table)
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert out.count("trial_0000") == 2
