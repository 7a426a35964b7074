from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.console.errors import UserError
from study.files import open_plain, write_json
from study.results.history import History, in_half_precision
from study.results.predictions import load_predictions
from study.results.tables import (
    EPOCH_COLUMNS,
    STEP_COLUMNS,
    TRIAL_COLUMNS,
    load_study,
    write_tables,
)
from study.results.trials import rank_trials
from tests.helpers.compared import study_content, write_comparison

CONTENT = study_content(SearchConfig("a", space_to_json(DEFAULT_SPACE)))


def history(accuracies, losses_per_epoch=3):
    epochs = [
        {
            "epoch": i,
            "step": i * losses_per_epoch,
            "examples_seen": i * 50,
            "epoch_lr": 0.7**i,
            "train_loss": 1 / i,
            "eval_loss": 1 - accuracy if np.isfinite(accuracy) else np.nan,
            "eval_accuracy": accuracy,
            "epoch_seconds": 2.0,
            "eval_seconds": 0.5,
            "epoch_ended": 1e9 + 2.5 * i,
        }
        for i, accuracy in enumerate(accuracies, 1)
    ]
    rng = np.random.default_rng(len(accuracies))
    losses = [rng.random(losses_per_epoch).astype(np.float32) for _ in accuracies]
    facts = {"num_params": 10, "precision": "fp32", "node": "n", "device": "d"}
    return History(epochs, losses, [20, 20, 10], facts)


def row(number, status, **more):
    fixed = {"model": "cnn", "dataset": "mnist", "evaluated": "validation", "seed": 1}
    hyper = {
        "optimizer": "adadelta",
        "epochs": 3,
        "batch_size": 20,
        "lr": 1.0,
        "gamma": 0.7,
        "width_mult": 1.0,
    }
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
        row(3, "failed", error="MemoryError"),
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
            trials.loc[trial_id, "last_eval_accuracy"], last.loc[trial_id, "eval_accuracy"]
        )
    best = results.epochs.groupby("trial_id")["eval_accuracy"].max()
    assert trials.loc[best.index, "best_eval_accuracy"].tolist() == best.tolist()
    assert trials.loc["trial_00000", "best_epoch"] == 2
    assert trials.loc["trial_00000", "seconds"] == 6.0


def test_not_a_number_stays(written):
    results = load_study(written[0])
    assert np.isnan(results.epochs.query("trial_id == 'trial_00002'")["eval_loss"].iloc[-1])
    failed = results.trials.query("status == 'failed'").iloc[0]
    assert failed["epochs_run"] == 0
    assert np.isnan(failed["last_eval_accuracy"])
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


def test_the_class_with_the_largest_probability_stays_it_in_half_precision():
    log_p = np.array([[-1.3866, -1.3865, -1.396, -1.396], [-0.4, -2.3, -2.3, -2.3]])
    half = in_half_precision(log_p)
    assert half.dtype == np.float16
    assert log_p[0].astype(np.float16).argmax() == 0  # or the test would test nothing
    assert half.argmax(1).tolist() == [1, 0]
    np.testing.assert_allclose(half, log_p, rtol=2**-10)


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


def change(name, edit):
    """A function that rewrites a table after changing it with `edit`."""

    def damage(folder):
        frame = pd.read_parquet(folder / f"{name}.parquet")
        edit(frame).to_parquet(folder / f"{name}.parquet", index=False)

    return damage


def put(column, row, value):
    def edit(frame):
        frame.loc[row, column] = value
        return frame

    return edit


def twice(frame):
    return pd.concat([frame, frame.tail(1)])


def instead(make):
    """A function that puts something else in place of epochs.parquet."""

    def damage(folder):
        (folder / "epochs.parquet").rename(folder / "elsewhere")
        make(folder / "epochs.parquet")

    return damage


DAMAGED_TABLES = {
    "lr as text": (change("trials", lambda t: t.assign(lr="x")), "'lr' has type"),
    "lr as whole numbers": (change("trials", lambda t: t.assign(lr=1)), "'lr' has type int64"),
    "ids as numbers": (
        change("epochs", lambda t: t.assign(trial_id=1)),
        "'trial_id' has type int64",
    ),
    "a trial twice": (change("trials", twice), "duplicate: 'trial_id trial_00003"),
    "an epoch twice": (change("epochs", twice), "duplicate: 'trial_id trial_00002, epoch 2"),
    "a step twice": (change("steps", twice), "duplicate: 'trial_id trial_00002, step 6"),
    "a trial without id": (change("trials", put("trial_id", 0, None)), r"damaged \(trial_id"),
    "an unknown status": (change("trials", put("status", 0, "<b>done\n")), r"status '<b>done\\n'"),
    "an unknown model": (change("trials", put("model", 0, "vgg")), "model 'vgg'"),
    "accuracy above 1": (change("epochs", put("eval_accuracy", 0, 1.01)), "eval_accuracy '1.01'"),
    "accuracy below 0": (change("trials", put("last_eval_accuracy", 0, -0.5)), "accuracy '-0.5'"),
    "infinite accuracy": (change("trials", put("best_eval_accuracy", 0, np.inf)), "'inf'"),
    "batch of nothing": (change("trials", put("batch_size", 0, 0)), "batch_size '0'"),
    "no lr": (change("trials", put("lr", 0, np.nan)), "lr 'nan'"),
    "an end in 5000": (
        change("epochs", put("epoch_ended", 0, pd.Timestamp("5000-01-01", tz="UTC").as_unit("ms"))),
        "epoch_ended '5000",
    ),
    "an early format without epochs_run": (
        change("trials", lambda t: t.drop(columns=["evaluated", "epochs_run"])),
        r"damaged \('epochs_run'",
    ),
    "epoch 0": (change("epochs", put("epoch", 0, 0)), "epoch '0'"),
    "no trials": (change("trials", lambda t: t.head(0)), "unknown trial 'trial_00000'"),
    "no epochs": (change("epochs", lambda t: t.head(0)), "0 rows of 'trial_00000', not 3"),
    "an epoch less": (change("epochs", lambda t: t.tail(5)), "2 rows of 'trial_00000', not 3"),
    "a step less": (change("steps", lambda t: t.tail(17)), "8 rows of 'trial_00000', not 9"),
    "steps of another": (
        change("steps", lambda t: t.assign(trial_id="who " + t["trial_id"])),
        "unknown trial 'who trial_00000'",
    ),
    "a folder": (instead(lambda path: path.mkdir()), "is not a file"),
    "a pipe": (instead(os.mkfifo), "is not a file"),
    "a link": (instead(lambda path: path.symlink_to("elsewhere")), "is a link"),
    "a link to nowhere": (instead(lambda path: path.symlink_to("nowhere")), "is a link"),
    "nothing in it": (instead(lambda path: path.write_bytes(b"")), "not a readable table"),
    "zeros": (instead(lambda path: path.write_bytes(b"\0" * 5000)), "not a readable table"),
}


@pytest.mark.parametrize("which", DAMAGED_TABLES)
def test_damaged_tables_are_refused_in_one_line(written, which, monkeypatch):
    monkeypatch.setattr("study.results.tables.BETWEEN_READS_S", 0)
    damage, reason = DAMAGED_TABLES[which]
    damage(written[0])
    with pytest.raises(UserError, match=reason) as error:
        load_study(written[0])
    assert str(error.value).startswith(str(written[0]))
    assert "\n" not in str(error.value)


def test_a_table_of_which_any_byte_is_wrong_is_read_or_refused(written):
    file = written[0] / "trials.parquet"
    good = file.read_bytes()
    for at in range(0, len(good), 131):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        try:
            load_study(written[0])
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 -- whole or refused, both are right


def test_lost_losses_are_no_damage(written, monkeypatch):
    monkeypatch.setattr("study.results.tables.BETWEEN_READS_S", 0)
    lost = "trial_00001"
    change("steps", lambda t: t[t["trial_id"] != lost])(written[0])
    change("epochs", put("train_loss", 3, np.nan))(written[0])
    results = load_study(written[0])
    assert results.epochs.loc[results.epochs["trial_id"] == lost, "train_loss"].isna().all()
    assert lost not in set(results.steps["trial_id"])


def test_tables_of_two_generations_are_read_again(written, monkeypatch):
    """A reader that comes while the tables are replaced gets the old ones or the new ones."""
    folder, histories = written
    grown = {**histories, "trial_00001": history([0.8, 0.85])}
    rows = [row(n, status) for n, status in enumerate(("complete", "complete", "diverged"))]
    other = folder / "newer"
    other.mkdir()
    write_tables(other, rows, grown)
    (other / "trials.parquet").replace(folder / "trials.parquet")
    read = []

    def meanwhile(_):
        read.append(load_study)
        for name in ("epochs", "steps"):
            (other / f"{name}.parquet").replace(folder / f"{name}.parquet")

    monkeypatch.setattr("study.results.tables.time.sleep", meanwhile)
    results = load_study(folder)
    assert len(read) == 1
    assert results.trials.set_index("trial_id").loc["trial_00001", "epochs_run"] == 2
    assert (results.epochs["trial_id"] == "trial_00001").sum() == 2


def test_old_tables_that_do_not_fit_are_not_waited_for(written, monkeypatch):
    change("epochs", lambda t: t.head(0))(written[0])
    for file in written[0].glob("*.parquet"):
        os.utime(file, (0, 0))
    monkeypatch.setattr("study.results.tables.time.sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(UserError, match=r"write them again with: python -m study\.run --resume"):
        load_study(written[0])


def test_a_table_that_is_replaced_while_it_is_read_is_read_whole(written, monkeypatch):
    """The file is opened once, so the reader keeps what it has opened."""
    folder = written[0]
    opened = []

    def open_then_remove(file):
        handle = open_plain(file)
        opened.append(file.name)
        file.unlink()
        return handle

    monkeypatch.setattr("study.results.tables.open_plain", open_then_remove)
    assert len(load_study(folder).trials) == 4
    assert sorted(opened) == ["epochs.parquet", "steps.parquet", "trials.parquet"]


@pytest.fixture
def predicted(tmp_path):
    arms = {"a": {"batch_size": 64}, "b": {"batch_size": 512}}
    return write_comparison(tmp_path / "c", arms, replicates=2).results.path


def first(column, value):
    return change("predictions", put(column, 0, value))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (first("label", 10), "label '10'"),
        (first("predicted", -1), "predicted '-1'"),
        (first("log_p3", np.nan), "log_p"),
        (first("log_p3", 5.0), "log_p"),
        (first("index", 7777), "images differ"),
        (first("label", 8), "images differ"),
        (change("predictions", lambda t: t.iloc[1:]), "images differ"),
        (change("predictions", twice), "duplicate: 'trial_id"),
        (change("predictions", lambda t: t.assign(label=1.0)), "'label' has type float64"),
        (
            change("predictions", lambda t: t.assign(trial_id=pd.Categorical(["who"] * len(t)))),
            "trial_id 'who'",
        ),
        (lambda folder: (folder / "predictions.parquet").unlink(), "missing"),
        (lambda folder: (folder / "predictions.parquet").write_text("no"), "not a readable table"),
    ],
)
def test_damaged_predictions_are_refused_in_one_line(predicted, damage, reason):
    damage(predicted)
    with pytest.raises(UserError, match=reason) as error:
        load_predictions(predicted)
    assert "\n" not in str(error.value)


def test_lost_predictions_are_no_damage(predicted):
    change("predictions", lambda t: t[t["trial_id"] != "trial_00002"])(predicted)
    assert load_predictions(predicted)["trial_id"].nunique() == 3


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
