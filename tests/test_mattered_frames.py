"""Each frame of what mattered against a plain recomputation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import mattered_frames as frames
from study.config.search import SearchConfig
from study.config.space import default_space, distribution, space_to_json
from tests.helpers.planted import TWO_OPTIMIZERS, planted


def test_only_what_was_varied():
    space = default_space("adadelta") | {
        "batch_size": distribution("batch_size", [64]),
        "gamma": distribution("gamma", [0.7]),
    }
    study = planted(3, np.random.default_rng(0), lambda at: 0.9, space)
    assert list(frames.varied(study)) == ["lr", "width_mult"]


def test_buckets_of_a_range_are_equally_wide_on_its_own_scale():
    space = SearchConfig("a", space_to_json(default_space("adadelta"))).space
    np.testing.assert_allclose(frames.edges(space["lr"], 2), [0.03, 0.3, 3.0])
    np.testing.assert_allclose(frames.edges(space["gamma"]), [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    values = pd.Series([0.03, 0.29, 0.31, 3.0, 4.0, np.nan], index=[5, 4, 3, 2, 1, 0])
    codes = frames.bucket_of(values, space["lr"], 2)
    assert codes.to_dict() == {5: 0, 4: 0, 3: 1, 2: 1, 1: -1, 0: -1}
    assert frames.bucket_of(pd.Series([1024, 7, 32]), space["batch_size"]).tolist() == [5, -1, 0]
    assert frames.bucket_names(space["lr"], 2) == ["0.03 to 0.3", "0.3 to 3"]
    assert frames.bucket_names(space["width_mult"]) == ["0.5", "1", "2"]


def test_places_are_on_the_scale_of_the_distribution():
    space = SearchConfig("a", space_to_json(default_space("adadelta"))).space
    values = pd.Series([0.03, 0.3, 3.0, 4.0, np.nan], index=[4, 3, 2, 1, 0])
    got = frames.place(values, space["lr"])
    assert got.tolist() == pytest.approx([0, 0.5, 1, np.nan, np.nan], nan_ok=True)
    assert frames.place(pd.Series([0.5, 0.6, 1.0]), space["gamma"]).tolist() == [0, 0.2, 1]
    got = frames.place(pd.Series([32, 1024, 7]), space["batch_size"])
    assert got.tolist() == pytest.approx([0.5 / 6, 5.5 / 6, np.nan], nan_ok=True)
    at, labels = frames.place_ticks(space["width_mult"])
    assert labels == ["0.5", "1", "2"]
    assert at == frames.place(pd.Series([0.5, 1, 2]), space["width_mult"]).tolist()
    at, labels = frames.place_ticks(space["gamma"])
    assert at == pytest.approx(frames.place(pd.Series(labels).astype(float), space["gamma"]))


def test_cells(made_up):
    got, trials = frames.cells(made_up, "batch_size", "width_mult"), made_up.trials
    error = 1 - trials["last_eval_accuracy"]
    assert len(got) > 1
    for cell in got.itertuples():
        inside = trials["batch_size"] == 32 * 2**cell.x
        inside &= trials["width_mult"] == [0.5, 1, 2][cell.y]
        complete = inside & (trials["status"] == "complete")
        assert (cell.tried, cell.complete) == (inside.sum(), complete.sum())
        known = error[complete if complete.any() else inside]
        assert cell.error == pytest.approx(known[np.isfinite(known)].median())
    # A cell without a result has no row.
    assert got["error"].notna().all()


def test_isolation(made_up):
    got = frames.isolation(made_up).set_index(["hyperparameter", "values"])
    trials = made_up.trials
    assert len(got) == 6 + 5 + 5 + 3
    for size in (32, 64, 128, 256, 512, 1024):
        inside, row = trials[trials["batch_size"] == size], got.loc[("batch_size", str(size))]
        assert row["tried"] == len(inside)
        assert row["complete"] == (inside["status"] == "complete").sum()
    # The stopped trial had the higher accuracy, but it is not complete.
    assert got.loc[("batch_size", "64"), "best_trial"] == "trial_00001"
    assert got.loc[("batch_size", "64"), "error"] == pytest.approx(0.01)
    # None is complete: the best of the stopped ones.
    assert got.loc[("batch_size", "1024"), "best_status"] == "pruned"
    assert got.loc[("batch_size", "1024"), "error"] == pytest.approx(0.15)
    assert got.loc[("batch_size", "256"), ["tried", "complete"]].tolist() == [1, 0]
    assert pd.isna(got.loc[("batch_size", "256"), "error"])
    for name in ("lr", "gamma"):
        for row in got.loc[name].itertuples():
            inside = trials[trials[name].between(row.low, row.high, "right")]
            inside = inside if row.bucket else trials[trials[name] <= row.high]
            assert row.tried == len(inside)
    assert got.groupby("hyperparameter")["tried"].sum().tolist() == [9] * 4


def test_isolation_counts_a_hyperparameter_where_it_applies():
    study = planted(50, np.random.default_rng(0), lambda at: at["lr"], TWO_OPTIMIZERS)
    tried = frames.isolation(study).groupby("hyperparameter")["tried"].sum()
    assert tried["optimizer"] == 50
    assert tried["momentum"] == (study.trials["optimizer"] == "sgd").sum()


def test_inputs_are_left_alone(made_up):
    before = made_up.trials.copy()
    frames.isolation(made_up)
    pd.testing.assert_frame_equal(made_up.trials, before)


def test_a_hyperparameter_that_no_trial_has_yet_is_left_out():
    study = planted(3, np.random.default_rng(0), lambda at: at["lr"], TWO_OPTIMIZERS)
    assert "momentum" in frames.varied(planted(0, np.random.default_rng(0), None, TWO_OPTIMIZERS))
    study.trials["momentum"] = np.nan
    assert "momentum" not in frames.varied(study)
