from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from study.config import StudyConfig, UserError
from study.history import History
from study.results import (
    EPOCH_COLUMNS,
    STEP_COLUMNS,
    TRIAL_COLUMNS,
    load_study,
    rank_trials,
    write_json,
    write_tables,
)
from study.space import DEFAULT_SPACE, space_to_json
from tests.compared import study_content

CONTENT = study_content(StudyConfig("a", space_to_json(DEFAULT_SPACE)))


def history(accuracies, losses_per_epoch=3):
    epochs = [
        {
            "epoch": i,
            "step": i * losses_per_epoch,
            "examples_seen": i * 50,
            "lr": 0.7**i,
            "train_loss": 1 / i,
            "val_loss": 1 - accuracy if np.isfinite(accuracy) else np.nan,
            "val_accuracy": accuracy,
            "seconds": 2.0,
            "eval_seconds": 0.5,
        }
        for i, accuracy in enumerate(accuracies, 1)
    ]
    rng = np.random.default_rng(len(accuracies))
    losses = [rng.random(losses_per_epoch).astype(np.float32) for _ in accuracies]
    facts = {"num_params": 10, "precision": "fp32", "node": "n", "device": "d"}
    return History(epochs, losses, [20, 20, 10], facts)


def row(number, status, **more):
    fixed = {"model": "cnn", "dataset": "mnist", "optimizer": "adadelta", "epochs": 3, "seed": 1}
    hyper = {"batch_size": 20, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}
    return {"trial_id": f"trial_{number:05d}", "status": status, **fixed, **hyper, **more}


@pytest.fixture
def written(tmp_path):
    histories = {
        "trial_00000": history([0.9, 0.95, 0.94]),
        "trial_00001": history([0.8]),
        "trial_00002": history([0.7, np.nan]),
    }
    rows = [
        row(0, "complete"),
        row(1, "pruned"),
        row(2, "diverged", error="loss not finite in epoch 2"),
        row(3, "failed", error="MemoryError", precision="auto"),
    ]
    write_json(tmp_path / "study.json", CONTENT)
    write_tables(tmp_path, rows, histories)
    return tmp_path, histories


def test_tables_have_the_schema_and_every_trial(written):
    results = load_study(written[0])
    assert dict(results.trials.dtypes.astype(str)) == TRIAL_COLUMNS
    assert dict(results.epochs.dtypes.astype(str)) == EPOCH_COLUMNS
    assert dict(results.steps.dtypes.astype(str)) == STEP_COLUMNS
    assert results.trials["status"].tolist() == ["complete", "pruned", "diverged", "failed"]
    plain = pd.read_parquet(written[0] / "trials.parquet")
    pd.testing.assert_frame_equal(plain, results.trials)


def test_trial_columns_follow_from_the_epochs(written):
    results = load_study(written[0])
    trials = results.trials.set_index("trial_id")
    last = results.epochs.groupby("trial_id").tail(1).set_index("trial_id")
    for trial_id in last.index:
        assert trials.loc[trial_id, "epochs_run"] == last.loc[trial_id, "epoch"]
        assert trials.loc[trial_id, "steps_run"] == last.loc[trial_id, "step"]
        np.testing.assert_equal(
            trials.loc[trial_id, "last_val_accuracy"], last.loc[trial_id, "val_accuracy"]
        )
    best = results.epochs.groupby("trial_id")["val_accuracy"].max()
    assert trials.loc[best.index, "best_val_accuracy"].tolist() == best.tolist()
    assert trials.loc["trial_00000", "best_epoch"] == 2
    assert trials.loc["trial_00000", "seconds"] == 6.0


def test_not_a_number_stays(written):
    results = load_study(written[0])
    assert np.isnan(results.epochs.query("trial_id == 'trial_00002'")["val_loss"].iloc[-1])
    failed = results.trials.query("status == 'failed'").iloc[0]
    assert failed["epochs_run"] == 0
    assert np.isnan(failed["last_val_accuracy"])
    assert pd.isna(failed["best_epoch"])
    assert failed["error"] == "MemoryError"


def test_steps_have_no_gap_and_no_repeat(written):
    folder, histories = written
    steps = load_study(folder).steps
    for trial_id, trial_history in histories.items():
        own = steps[steps["trial_id"] == trial_id]
        assert own["step"].tolist() == list(range(1, len(own) + 1))
        expected = np.concatenate(trial_history.step_losses).astype(float)
        np.testing.assert_array_equal(own["loss"], expected)
        assert own.groupby("epoch")["num_examples"].sum().unique().tolist() == [50]


def test_ranking_puts_complete_trials_first(written):
    ranked = rank_trials(load_study(written[0]).trials)
    assert ranked["trial_id"].iloc[0] == "trial_00000"
    assert list(ranked.columns) == list(TRIAL_COLUMNS)


def test_a_study_without_any_epoch_has_empty_tables(tmp_path):
    write_json(tmp_path / "study.json", CONTENT)
    write_tables(tmp_path, [row(0, "failed")], {})
    results = load_study(tmp_path)
    assert (len(results.trials), len(results.epochs), len(results.steps)) == (1, 0, 0)
    assert dict(results.steps.dtypes.astype(str)) == STEP_COLUMNS


def test_history_round_trip(tmp_path):
    original = history([0.9, np.nan])
    original.save(tmp_path)
    loaded = History.read((tmp_path / "history.npz").read_bytes())
    assert json.dumps(loaded.epochs) == json.dumps(original.epochs)
    np.testing.assert_array_equal(loaded.step_losses, original.step_losses)
    assert (loaded.batch_sizes, loaded.facts) == (original.batch_sizes, original.facts)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: (p / "study.json").unlink(), "not a study"),
        (lambda p: (p / "study.json").write_text("{"), "damaged"),
        (lambda p: (p / "study.json").write_text("[]"), "damaged"),
        (lambda p: (p / "study.json").write_text('{"format_version": 99}'), "results format 99"),
        (lambda p: (p / "epochs.parquet").unlink(), "--resume"),
        (lambda p: (p / "steps.parquet").write_bytes(b"PAR1"), "not a readable table"),
        (
            lambda p: pd.DataFrame({"a": [1]}).to_parquet(p / "trials.parquet"),
            "column 'trial_id' is missing",
        ),
    ],
)
def test_broken_studies_are_refused_in_one_line(written, damage, reason):
    damage(written[0])
    with pytest.raises(UserError, match=reason) as error:
        load_study(written[0])
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
