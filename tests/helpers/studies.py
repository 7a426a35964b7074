"""Start, kill and check real studies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.results.journal import trial_name, trial_status
from study.results.storage import Storage
from study.results.tables import load_study
from study.training.epoch import TIMES

ROOT = Path(__file__).resolve().parents[2]
# The losses depend only on the seed, wherever and however often a trial is continued.
FIXED = [
    "--batch-size",
    "1024",
    "--lr",
    "1",
    "--gamma",
    "0.7",
    "--width-mult",
    "0.5",
    "--scheduler",
    "none",
]
SMALL = ["--batch-size", "512", "1024", "--width-mult", "0.5", "--epochs", "3"]


def start(here, *argv, module="study.run"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *argv],
        cwd=here,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process, status=0, timeout=400):
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == status, out
    assert "Traceback" not in out
    return out


def run(here, *argv, status=0, module="study.run"):
    return finish(start(here, *argv, module=module), status)


def optuna_trials(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    return optuna.load_study(study_name=None, storage=storage).trials


def journal(folder):
    """The journal's operations so far, read without disturbing the driver."""
    path = folder / "optuna.log"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def count_ended(folder):
    """Trials that have ended."""
    # Operation 6 sets a trial's state. States 1, 2 and 3 are ends.
    return sum(op["op_code"] == 6 and op["state"] in (1, 2, 3) for op in journal(folder))


def count_epochs(folder):
    """Epochs that have been reported."""
    return sum(op["op_code"] == 7 for op in journal(folder))


def wait_until(condition, process, timeout=200):
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def assert_each_trial_once(folder, num_samples, statuses=frozenset({"complete", "pruned"})):
    """The tables, histories and the Optuna study hold the same trials, each once."""
    expected = [f"trial_{n:05d}" for n in range(num_samples)]
    results = load_study(folder)
    assert set(results.trials["status"]) <= statuses, results.trials[["status", "error"]]
    assert results.trials["trial_id"].tolist() == expected
    trials = optuna_trials(folder)
    assert [trial_name(t.number) for t in trials] == expected
    assert [trial_status(t) for t in trials] == results.trials["status"].tolist()
    assert all(t.state.is_finished() for t in trials)
    assert {path.name for path in (folder / "ray").iterdir() if path.is_dir()} <= set(expected)
    assert sorted(path.stem for path in (folder / "histories").iterdir()) == expected
    assert not results.epochs.duplicated(["trial_id", "epoch"]).any()
    for trial_id, epochs in results.epochs.groupby("trial_id"):
        count = len(epochs)
        assert epochs["epoch"].tolist() == list(range(1, count + 1))
        kept = Storage(folder).kept(trial_id)
        assert [epoch["epoch"] for epoch in kept.epochs] == list(range(1, count + 1))
        np.testing.assert_array_equal(
            [epoch["eval_accuracy"] for epoch in kept.epochs], epochs["eval_accuracy"]
        )
    return results


def assert_steps_are_whole(results):
    """The tables hold every step of every epoch, including the last batch, and the right means."""
    for row in results.trials.itertuples():
        steps = results.steps[results.steps["trial_id"] == row.trial_id]
        per_epoch = -(-50_000 // row.batch_size)
        assert steps["step"].tolist() == list(range(1, per_epoch * row.epochs_run + 1))
        assert (steps.groupby("epoch")["num_examples"].sum() == 50_000).all()
        epochs = results.epochs[results.epochs["trial_id"] == row.trial_id].set_index("epoch")
        weighted = (steps["loss"] * steps["num_examples"]).groupby(steps["epoch"]).sum() / 50_000
        pd.testing.assert_series_equal(weighted, epochs["train_loss"], check_names=False, rtol=1e-9)


def assert_same_measurements(results, expected):
    """Every loss and accuracy of every trial is the same, bit for bit."""
    pd.testing.assert_frame_equal(results.steps, expected.steps, check_exact=True)
    times = list(TIMES)
    pd.testing.assert_frame_equal(
        results.epochs.drop(columns=times), expected.epochs.drop(columns=times), check_exact=True
    )
