"""The frames of a search against a plain recomputation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import search_frames as frames


def test_best_trials_are_complete_ones_where_there_are_any(made_up):
    best = frames.best_trials(made_up.trials)
    assert best["batch_size"].tolist() == [64, 512, 1024]  # none at 256: it failed
    assert best["trial_id"].tolist() == ["trial_00001", "trial_00000", "trial_00005"]


def test_loss_by_step_keeps_every_step_and_its_mean(made_up):
    curve = frames.loss_by_step(made_up.steps, made_up.trials, windows=7)
    for trial_id, steps in made_up.steps.groupby("trial_id"):
        mine = curve[curve["trial_id"] == trial_id]
        assert mine["num_steps"].sum() == len(steps)
        assert mine["step"].max() == len(steps)
        assert len(mine) <= 8
        previous = 0
        for window in mine.itertuples():
            inside = steps[(steps["step"] > previous) & (steps["step"] <= window.step)]
            expected = np.average(inside["loss"], weights=inside["num_examples"])
            assert window.loss == pytest.approx(expected, rel=1e-12)
            assert window.low == pytest.approx(np.quantile(inside["loss"], 0.1))
            assert window.high == pytest.approx(np.quantile(inside["loss"], 0.9))
            previous = window.step


def test_windows_are_equally_wide_on_a_log_axis():
    steps = pd.DataFrame(
        {"trial_id": "a", "step": np.arange(1, 10_001), "num_examples": 1, "loss": 1.0}
    )
    trials = pd.DataFrame({"trial_id": ["a"], "batch_size": [8]})
    ends = frames.loss_by_step(steps, trials, windows=4)["step"]
    assert ends.tolist() == [1, 10, 100, 1000, 10_000]


def test_a_window_with_a_loss_that_is_not_finite_has_no_mean():
    steps = pd.DataFrame({"trial_id": "a", "step": [1, 2], "num_examples": 5, "loss": [1, np.nan]})
    trials = pd.DataFrame({"trial_id": ["a"], "batch_size": [5]})
    curve = frames.loss_by_step(steps, trials, windows=1)
    assert curve["loss"].isna().tolist() == [False, True]


def test_loss_by_epoch(made_up):
    best = frames.best_trials(made_up.trials)
    got = frames.loss_by_epoch(made_up.epochs, best)
    epochs = made_up.epochs.set_index(["trial_id", "epoch"])
    assert len(got) == 2 * sum(best["epochs_run"])
    for row in got.itertuples():
        column = {"training": "train_loss", "validation": "eval_loss"}[row.split]
        assert row.loss == epochs.loc[(row.trial_id, row.epoch), column]


def test_accuracy_by_epoch(made_up):
    got = frames.accuracy_by_epoch(made_up.epochs, made_up.trials, 200)
    assert len(got) == len(made_up.epochs)
    merged = got.merge(made_up.epochs, on=["trial_id", "epoch"])
    pd.testing.assert_series_equal(merged["accuracy"], merged["eval_accuracy"], check_names=False)
    assert set(got.loc[got["best"], "trial_id"]) == {"trial_00000", "trial_00001", "trial_00005"}
    finite = got.dropna()
    assert ((finite["low"] < finite["accuracy"]) & (finite["accuracy"] < finite["high"])).all()
    assert len(got) - len(finite) == 1  # the diverged epoch


def test_trial_map_has_every_trial(made_up):
    got = frames.trial_map(made_up.trials)
    assert got["trial_id"].tolist() == made_up.trials["trial_id"].tolist()
    assert got.loc[got["best"], "trial_id"].tolist() == ["trial_00001"]
    assert got["error"].isna().sum() == 2
    assert got["error"].iloc[0] == pytest.approx(0.015)


def test_summary_by_batch_size(made_up):
    got = frames.summary_by_batch_size(made_up).set_index("batch_size")
    assert got.index.tolist() == [64, 256, 512, 1024]
    assert got["trials"].tolist() == [3, 1, 2, 3]
    assert got.loc[64, ["complete", "pruned", "failed"]].tolist() == [2, 1, 0]
    assert got.loc[1024, ["pruned", "interrupted"]].tolist() == [2, 1]
    assert got.loc[64, ["best_trial", "accuracy", "lr"]].tolist() == ["trial_00001", 0.99, 0.5]
    assert got.loc[64, "low"] < 0.99 < got.loc[64, "high"]
    assert pd.isna(got.loc[256, "accuracy"])


def test_without_any_result(fruitless):
    trials = fruitless.trials
    assert frames.best_trials(trials).empty
    assert not frames.trial_map(trials)["best"].any()
    assert frames.summary_by_batch_size(fruitless)["trials"].tolist() == [1, 1]
    assert frames.loss_by_step(fruitless.steps, frames.best_trials(trials)).empty


def test_inputs_are_left_alone(made_up):
    before = [made_up.trials.copy(), made_up.epochs.copy(), made_up.steps.copy()]
    frames.loss_by_step(made_up.steps, made_up.trials)
    frames.loss_by_epoch(made_up.epochs, made_up.trials)
    frames.accuracy_by_epoch(made_up.epochs, made_up.trials, 200)
    frames.trial_map(made_up.trials)
    frames.summary_by_batch_size(made_up)
    for table, copy in zip([made_up.trials, made_up.epochs, made_up.steps], before, strict=True):
        pd.testing.assert_frame_equal(table, copy)
