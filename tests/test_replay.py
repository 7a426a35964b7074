"""A trial is trained again, for real, on 96 synthetic digits, and compared with its record."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from study import replay
from study.config.comparison import ComparisonConfig
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.results.closeness import RecordedEpoch
from study.results.study_file import SessionRecord, StudyFile
from study.results.tables import write_tables
from study.search.trainable import TrialTrainable
from study.training.epoch import EpochRecord
from tests.helpers.simulated import leave_out_ray

SEARCH = SearchConfig("n", space_to_json(DEFAULT_SPACE), num_samples=5, epochs=3)
POINT = {"batch_size": 32, "lr": 0.5, "gamma": 0.7, "width_mult": 0.5}
ARMS = {
    "plain": {"batch_size": 32},
    "other": {"batch_size": 32, "train_examples": 64, "dropout": False, "batch_norm": True},
}


@pytest.fixture(autouse=True)
def small(monkeypatch, digits):
    """Of the images only a few; and no checkout, whose commit would change with each test."""
    leave_out_ray(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("study.data.images.load_splits", lambda *_: digits)
    monkeypatch.setattr("study.training.kernels.problem", lambda: None)


def trained(config, digits, epochs, keep):
    """The history of a trial, as the trainable itself makes it."""
    trial = object.__new__(TrialTrainable)
    train, evaluated = digits
    data = {"train_images": train.images, "train_labels": train.labels}
    data |= {"eval_images": evaluated.images, "eval_labels": evaluated.labels}
    trial.setup(asdict(config), keep=keep, **data)
    while len(trial.trainer.epochs) < epochs and not trial.trainer.finished:
        trial.trainer.run_epoch()
    return trial.history()


def write(folder: Path, config, trials, digits) -> Path:
    """A study of `trials`: status, parameters, epochs; written as a session writes it."""
    folder.mkdir()
    session = SessionRecord.of_this_process(None, nodes=1, concurrent_trials=1, gpus_per_trial=0)
    StudyFile.of(config, None, (session,)).write(folder)
    rows, histories = [], {}
    for number, (status, params, epochs) in enumerate(trials):
        trial, made_with = f"trial_{number:05d}", config.trial_config(params, number)
        rows.append({"trial_id": trial, "status": status, **asdict(made_with), **params})
        rows[-1]["error"] = "out of\nmemory" if status == "failed" else None
        if epochs:
            histories[trial] = trained(made_with, digits, epochs, config.keeps_predictions)
    write_tables(folder, rows, histories)
    return folder


@pytest.fixture
def folder(tmp_path, digits):
    trials = [
        ("complete", POINT, 3),
        ("pruned", POINT, 1),
        ("diverged", {**POINT, "lr": 1e20}, 3),
        ("failed", POINT, 0),
        ("interrupted", POINT, 2),
    ]
    return write(tmp_path / "n", SEARCH, trials, digits)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def say(capsys, folder, trial="trial_00000", status=0):
    """What the command prints, which leaves the folder as it is."""
    before = contents(folder)
    capsys.readouterr()
    assert replay.main([str(folder), trial]) == status
    assert contents(folder) == before
    out, err = capsys.readouterr()
    return err if status == 2 else out


def rewrite(folder, table, change):
    frame = pd.read_parquet(folder / f"{table}.parquet")
    kinds = frame.dtypes
    change(frame)
    frame.astype(kinds).to_parquet(folder / f"{table}.parquet", index=False)


def edit_sessions(folder, **changes):
    study = StudyFile.read(folder)
    sessions = tuple(replace(session, **changes) for session in study.sessions)
    replace(study, sessions=sessions).write(folder)


def alter_a_step(folder, by=0.5):
    """The loss of the second of three steps of the second epoch."""

    def change(steps):
        steps.loc[(steps["trial_id"] == "trial_00000") & (steps["step"] == 5), "loss"] += by

    rewrite(folder, "steps", change)


def test_the_same_is_said_epoch_by_epoch(capsys, folder):
    first, as_recorded, *epochs, last = say(capsys, folder).splitlines()
    assert first.startswith(f"trial_00000 of {folder}: complete; 3 of 3 epochs on record, which")
    assert as_recorded.startswith("Code, versions and processor are as on record")
    accuracies = pd.read_parquet(folder / "epochs.parquet")["eval_accuracy"]
    for number, (line, accuracy) in enumerate(zip(epochs, accuracies[:3], strict=True), 1):
        end = "; about 0s left" if number < 3 else ""
        words = f"epoch {number}/3: same bit for bit; validation accuracy {accuracy:.2%}"
        assert line.startswith(words)
        assert bool(end) == ("; about " in line)
    assert last == "Same bit for bit: 3 of 3 epochs, 9 step losses."


def test_a_pruned_trial_stops_where_it_stopped(capsys, folder):
    out = say(capsys, folder, "trial_00001")
    assert "pruned; 1 of 3 epochs on record" in out
    assert out.endswith("Same bit for bit: 1 of 1 epochs, 3 step losses.\n")


def test_it_trains_on_one_thread_as_trials_do(capsys, folder):
    torch.set_num_threads(2)
    say(capsys, folder, "trial_00001")
    assert torch.get_num_threads() == 1


def test_a_diverged_trial_diverges_again(capsys, folder):
    assert "Same bit for bit: 1 of 1 epochs" in say(capsys, folder, "trial_00002")


def test_one_step_that_is_another_is_named(capsys, folder):
    alter_a_step(folder)
    out = say(capsys, folder, status=1)
    assert "epoch 1/3: same bit for bit" in out
    assert "epoch 2/3: different (1 of 3 step losses, the first at step 5: " in out
    assert "epoch 3/3: same bit for bit" in out
    assert "\nDifferent: first in epoch 2 (1 of 3 step losses, the first at step 5: " in out
    assert "the C compiler" in out


def test_the_last_bit_counts(capsys, folder):
    def change(epochs):
        epochs.loc[2, "eval_loss"] = np.nextafter(epochs.loc[2, "eval_loss"], 9)

    rewrite(folder, "epochs", change)
    assert "first in epoch 3 (eval_loss: " in say(capsys, folder, status=1)


def test_other_versions_are_named_and_a_tolerance_applies(capsys, folder):
    alter_a_step(folder)
    versions = {**StudyFile.read(folder).sessions[0].versions, "torch": "1.0", "ray": "0"}
    edit_sessions(folder, versions=versions)
    out = say(capsys, folder)
    assert "Not as on record: torch 1.0 (here torch " in out
    assert "ray" not in out
    assert "Tolerance: the first step's loss within " in out
    assert "epoch 2/3: within the tolerance (1 of 3 step losses" in out
    assert out.endswith("Within the tolerance; not the same bit for bit from epoch 2 on.\n")


def test_beyond_the_tolerance_is_different(capsys, folder):
    edit_sessions(folder, git={"commit": "a" * 40, "dirty": True})

    def change(epochs):
        epochs.loc[1, "train_loss"] *= 1.5

    rewrite(folder, "epochs", change)
    out = say(capsys, folder, status=1)
    assert "commit aaaaaaaaaa with changes (here commit unknown)" in out
    assert "Different: first in epoch 2 (train_loss: " in out


def test_what_another_seed_gives_is_different_from_the_first_step_on(capsys, folder):
    """Though later values are within the spread of seeds."""

    def change(trials):
        trials.loc[0, "seed"] += 1
        trials.loc[0, "device"] = "another processor"

    rewrite(folder, "trials", change)
    assert "Different: first in epoch 1 (loss of step 1: " in say(capsys, folder, status=1)


def test_a_changed_checkout_is_not_the_recorded_code(capsys, folder, monkeypatch):
    now = {"commit": "b" * 40, "dirty": False}
    monkeypatch.setattr("study.results.study_file.git_state", lambda: now)
    edit_sessions(folder, git=now)
    assert "all must be the same bits" in say(capsys, folder)
    edit_sessions(folder, git={**now, "dirty": True})
    assert "commit bbbbbbbbbb with changes (here commit bbbbbbbbbb)" in say(capsys, folder)


def test_a_record_cannot_speak_for_the_command(capsys, folder):
    fake = "x\nSame bit for bit.\x1b[2J"
    edit_sessions(folder, versions={"torch": [fake], "numpy": fake, "mnist-study": {}})
    rewrite(folder, "trials", lambda trials: trials.__setitem__("device", fake))
    out = say(capsys, folder)
    assert "\x1b" not in out
    assert len([line for line in out.splitlines() if line.startswith("Same bit")]) == 1


def test_a_trial_of_a_gpu_is_not_compared_by_its_first_step(capsys, folder):
    edit_sessions(folder, gpus_per_trial=1.0)
    rewrite(folder, "trials", lambda trials: trials.__setitem__("device", "a GPU"))
    rewrite(folder, "steps", lambda steps: steps.__setitem__("loss", steps["loss"] * 1.1))
    out = say(capsys, folder)
    assert "device a GPU (here device " in out
    assert "order and dropout drawn by a GPU (here by the processor)" in out
    assert "Tolerance: after each epoch" in out
    assert "Within the tolerance; not the same bit for bit from epoch 1 on." in out


def test_a_study_of_processors_stays_on_the_processor(capsys, folder, monkeypatch):
    monkeypatch.setattr("study.training.device.pick_device", lambda: torch.device("cuda"))
    assert "Same bit for bit" in say(capsys, folder)


def test_without_a_compiler_a_difference_may_be_rounding(capsys, folder, monkeypatch):
    monkeypatch.setattr("study.training.kernels.problem", lambda: "No C compiler here")
    out = say(capsys, folder)
    assert "kernels in C, if it had them (here none: No C compiler here)" in out


@pytest.mark.parametrize("trial", ["trial_00000", "trial_00001"])
def test_a_trial_of_a_comparison(capsys, tmp_path, digits, trial):
    config = ComparisonConfig("n", "?", ARMS, replicates=1, epochs=2)
    trials = [("complete", point, 2) for point in config.points]
    folder = write(tmp_path / "n", config, trials, digits)
    assert "Same bit for bit: 2 of 2 epochs" in say(capsys, folder, trial)
    rewrite(folder, "trials", lambda rows: rows.__setitem__("batch_size", [16, 16]))
    out = say(capsys, folder, trial, status=2)
    assert f"damaged ({trial}: batch_size: 16 is not of its configuration); restore" in out
    rewrite(folder, "trials", lambda rows: rows.__setitem__("arm", ["no", "no"]))
    assert f"damaged ({trial}: no arm 'no'); restore" in say(capsys, folder, trial, status=2)


def test_the_papers_protocol_evaluates_the_test_images_again(capsys, tmp_path, digits, monkeypatch):
    train, evaluated = digits
    monkeypatch.setattr("study.data.images.load_training_images", lambda *_: train)
    monkeypatch.setattr("study.data.images.fetch", lambda *_: tmp_path)
    monkeypatch.setattr(
        "study.data.images._read_idx",
        lambda path: evaluated.images if "images" in path.name else evaluated.labels,
    )
    config = ComparisonConfig("n", "?", ARMS, replicates=1, epochs=1, protocol="paper")
    folder = write(tmp_path / "n", config, [("complete", config.points[0], 1)], digits)
    out = say(capsys, folder)  # which also sees that nothing is noted in the folder
    assert "test accuracy" in out
    assert "Same bit for bit" in out


def test_steps_of_no_epoch_are_not_taken_for_lost(capsys, folder):
    def change(steps):
        steps["epoch"] += 90

    rewrite(folder, "steps", change)
    assert "steps.parquet: damaged (trial_00000: a step of epoch 91" in say(
        capsys, folder, status=2
    )


def test_lost_steps_leave_the_epochs_to_compare(capsys, folder):
    steps = pd.read_parquet(folder / "steps.parquet")
    steps[steps["trial_id"] != "trial_00000"].to_parquet(folder / "steps.parquet", index=False)
    assert "3 of 3 epochs, as far as is known: the steps are lost." in say(capsys, folder)


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ("trial_0000", "has no such trial (did you mean 'trial_00004'?); its 5 trials are"),
        ("x", "'x': "),
        ("trial_00003", "failed before its first epoch had ended (out of memory); there is noth"),
        ("trial_00004", "has not ended; wait for its end, or continue the study with: python -m s"),
    ],
)
def test_a_trial_that_cannot_be_replayed(capsys, folder, trial, words):
    err = say(capsys, folder, trial, status=2)
    assert err.startswith("error: TRIAL: ")
    assert err.count("\n") == 1
    assert words in err


def test_bad_input_is_one_line(capsys, folder, tmp_path):
    assert replay.main([str(tmp_path / "none"), "trial_00000"]) == 2
    assert "none: not a study" in capsys.readouterr().err
    rewrite(folder, "trials", lambda trials: trials.__setitem__("seed", -trials["seed"]))
    assert "seed: -" in say(capsys, folder, status=2)
    (folder / "steps.parquet").unlink()
    assert "steps.parquet is missing" in say(capsys, folder, status=2)


@pytest.mark.parametrize("name", ["2_search", "3_search"])
def test_a_trial_of_an_earlier_version_is_still_the_same(
    capsys, tmp_path, monkeypatch, mnist, name
):
    """Bit for bit on the processor that it ran on; elsewhere within the tolerance."""
    monkeypatch.setattr("study.data.images.load_splits", lambda *_: mnist)
    folder = shutil.copytree(Path(__file__).with_name("formats") / name, tmp_path / name)
    assert json.loads((folder / "study.json").read_text())["format_version"] == int(name[0])
    out = say(capsys, folder)
    assert "Not as on record: " in out  # the code, at least
    assert out.count("; validation accuracy ") == 2


def test_made_up_values_are_different(capsys, tmp_path):
    folder = shutil.copytree(Path(__file__).with_name("formats") / "3_comparison", tmp_path / "n")
    assert "Different: first in epoch 1 (loss of step 1: " in say(capsys, folder, status=1)


RECORD = EpochRecord(1, 3, 96, 0.5, 1.0, 0.5, 0.98, 1.0, 0.1, 1e9)


@pytest.mark.parametrize(
    ("change", "beyond"),
    [
        ({}, ""),
        ({"train_loss": 1.39}, ""),
        ({"train_loss": 1.41}, "train_loss: 1.0 recorded, 1.41 now"),
        ({"train_loss": 0.71}, "train_loss: 1.0 recorded, 0.71 now"),
        ({"eval_loss": 0.99}, ""),
        ({"eval_loss": 1.01}, "eval_loss: 0.5 recorded, 1.01 now"),
        ({"eval_accuracy": 0.959}, ""),
        ({"eval_accuracy": 0.991}, ""),
        ({"eval_accuracy": 0.95}, "eval_accuracy: 0.98 recorded, 0.95 now"),
        ({"eval_accuracy": 1.0}, "eval_accuracy: 0.98 recorded, 1.0 now"),
        ({"examples_seen": 95}, "examples_seen: 96 recorded, 95 now"),
        ({"epoch_lr": 0.6}, "epoch_lr: 0.5 recorded, 0.6 now"),
        ({"eval_loss": float("nan")}, "diverged now"),
    ],
)
def test_the_tolerance(change, beyond):
    losses = np.float32([2.3, 2, 1])
    recorded = RecordedEpoch(asdict(RECORD), losses.astype(float), 1, diverged=False)
    now = replace(RECORD, **change)
    assert recorded.beyond_tolerance(now, losses, 2**-8) == beyond
    assert bool(recorded.first_difference(now, losses)) == bool(change)
    lost = replace(recorded, values={**recorded.values, "train_loss": np.nan, "eval_loss": np.nan})
    if not {"train_loss", "eval_loss"}.isdisjoint(change) and "diverged" not in beyond:
        assert not lost.beyond_tolerance(now, losses, 2**-8)
        assert not lost.first_difference(now, losses)


def test_the_first_step_allows_rounding_only():
    losses = np.float32([2.3, 2, 1])
    recorded = RecordedEpoch(asdict(RECORD), losses.astype(float), 1, diverged=False)
    assert not recorded.beyond_tolerance(RECORD, losses * np.float32(1.003), 2**-8)
    other = losses * np.float32(1.01)
    assert "loss of step 1" in recorded.beyond_tolerance(RECORD, other, 2**-8)
    assert not recorded.beyond_tolerance(RECORD, other, None)
    assert not replace(recorded, first_step=4).beyond_tolerance(RECORD, other, 2**-8)


def test_a_trial_must_diverge_when_it_did():
    recorded = RecordedEpoch(asdict(RECORD), np.empty(0), 1, diverged=True)
    for compare in (recorded.first_difference, lambda *a: recorded.beyond_tolerance(*a, None)):
        assert compare(RECORD, np.float32([1])) == "diverged in the record, not now"
