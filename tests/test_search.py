"""Real studies: the command line, Ray processes, real MNIST, real kills."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState

from study.results.journal import trial_name
from study.results.tables import load_study
from tests.helpers.studies import (
    ROOT,
    SMALL,
    assert_each_trial_once,
    assert_same_measurements,
    assert_steps_are_whole,
    count_ended,
    finish,
    optuna_trials,
    run,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path, mnist):
    """A folder to run in, once the images are known to be in the cache."""
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mnist):
    """One study that runs to its end. Returns (folder it ran in, output)."""
    here = tmp_path_factory.mktemp("finished")
    return here, run(here, "--num-samples", "6", "--name", "a", *SMALL)


def test_a_study_ends_with_every_trial_in_every_record(finished):
    here, out = finished
    results = assert_each_trial_once(here / "results" / "a", 6)
    assert_steps_are_whole(results)
    report = results.trials.iloc[0]
    assert (report["batch_size"], report["lr"], report["gamma"]) == (512, 1.0, 0.7)
    assert report["status"] == "complete"
    assert report["last_eval_accuracy"] > 0.95  # it learned
    assert (results.trials["node"] != "").all()
    assert "6 of 6 trials ended" in out
    assert "python -m analysis.report results/a" in out
    assert "Warning" not in out
    assert "WARNING" not in out


def test_pruned_trials_carry_their_last_value(finished):
    folder = finished[0] / "results" / "a"
    trials = load_study(folder).trials.set_index("trial_id")
    pruned = [t for t in optuna_trials(folder) if t.state == TrialState.PRUNED]
    assert pruned, "ASHA stopped nothing"
    for trial in pruned:
        row = trials.loc[trial_name(trial.number)]
        assert trial.value == row["last_eval_accuracy"]
        assert trial.last_step == row["epochs_run"] < 3


def test_study_json_says_how_it_was_made(finished):
    study = json.loads((finished[0] / "results" / "a" / "study.json").read_text())
    assert study["config"]["num_samples"] == 6
    assert study["data"]["sha256"]["train-images-idx3-ubyte"].startswith("ba891046")
    (session,) = study["sessions"]
    assert session["versions"]["ray"]
    assert session["concurrent_trials"] >= 1


def test_a_finished_study_is_extended(finished):
    here, _ = finished
    folder = here / "results" / "a"
    before = load_study(folder)
    out = run(here, "--resume", "results/a", "--num-samples", "8")
    assert "8 of 8 trials ended" in out
    after = assert_each_trial_once(folder, 8)
    pd.testing.assert_frame_equal(after.trials.head(6), before.trials)
    pd.testing.assert_frame_equal(after.steps.head(len(before.steps)), before.steps)
    assert [s.command.split()[-1] for s in after.study.sessions] == ["3", "8"]


def test_a_finished_study_resumed_has_nothing_to_do(finished):
    folder = finished[0] / "results" / "a"
    before = load_study(folder).trials
    run(finished[0], "--resume", "results/a")
    pd.testing.assert_frame_equal(load_study(folder).trials, before)


def test_driver_killed_at_three_moments(here):
    """Resume after each kill. No trial is lost or duplicated."""
    folder = here / "results" / "k"
    process = start(here, "--num-samples", "8", "--name", "k", *SMALL)
    moments = [
        (folder / "study.json").exists,  # before the first trial
        lambda: any((folder / "ray").glob("trial_*/checkpoint_*")),  # within the first trials
        lambda: count_ended(folder) >= 5,
    ]
    for moment in moments:
        wait_until(moment, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        process = start(here, "--resume", "results/k")
    finish(process)
    results = assert_each_trial_once(folder, 8)
    assert_steps_are_whole(results)
    assert len(results.study.sessions) == 4


def test_a_resumed_trials_losses_equal_an_uninterrupted_ones(here):
    """With fixed hyperparameters and no early stopping, the losses depend only on the seed."""
    fixed = [
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
        "--epochs",
        "4",
        "--num-samples",
        "2",
    ]
    run(here, *fixed, "--name", "whole")
    process = start(here, *fixed, "--name", "cut")
    folder = here / "results" / "cut"
    wait_until(lambda: any((folder / "ray").glob("trial_*/checkpoint_000001")), process)
    process.kill()
    process.communicate()
    run(here, "--resume", "results/cut")
    whole = load_study(here / "results" / "whole")
    assert_same_measurements(assert_each_trial_once(folder, 2), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(here, number):
    folder = here / "results" / "s"
    process = start(here, "--num-samples", "4", "--name", "s", *SMALL)
    wait_until(lambda: any((folder / "ray").glob("trial_*/checkpoint_*")), process)
    process.send_signal(number)
    out = finish(process)
    assert f"Ended early: stopped by {number.name}" in out
    assert "python -m study.run --resume results/s" in out
    stopped = load_study(folder)
    assert "interrupted" in set(stopped.trials["status"])
    run(here, "--resume", "results/s")
    results = assert_each_trial_once(folder, 4)
    # Earlier work is kept, not repeated.
    pd.testing.assert_frame_equal(
        stopped.epochs, results.epochs.merge(stopped.epochs[["trial_id", "epoch"]])
    )


def test_without_a_compiler_it_says_so_and_runs(here, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    out = run(here, "--num-samples", "1", "--name", "s", *SMALL, "--epochs", "1")
    assert "No C compiler found ('no-such-compiler'); install a C compiler" in out
    (status,) = load_study(here / "results" / "s").trials["status"]
    assert status == "complete"


def test_a_spent_time_budget_ends_the_study(here):
    out = run(here, "--num-samples", "50", "--name", "t", "--time-budget", "8s", *SMALL)
    assert "Ended early: the time budget is used up" in out
    assert 0 < len(load_study(here / "results" / "t").trials) < 50


def test_diverging_trials_are_kept_and_the_study_goes_on(here):
    out = run(
        here,
        "--num-samples",
        "3",
        "--name",
        "d",
        "--optimizer",
        "sgd",
        "--lr",
        "1e20",
        "--epochs",
        "2",
        "--batch-size",
        "1024",
        "--width-mult",
        "0.5",
        status=1,
    )
    results = assert_each_trial_once(here / "results" / "d", 3, {"diverged"})
    assert Counter(results.trials["status"]) == {"diverged": 3}
    assert results.trials["error"].str.startswith("loss not finite in epoch 1").all()
    assert results.epochs["eval_loss"].isna().all()
    assert all(t.state == TrialState.FAIL for t in optuna_trials(here / "results" / "d"))
    assert "3 diverged" in out
    assert "All trials failed or diverged: exit status 1." in out


def test_failed_trials_are_explained_and_run_again(here):
    """Their error holds terminal escapes and markup, like a real error of NCCL."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FAIL_WITH": "[/pytorch/gloo/pair.cc:534] \x1b[31mConnection closed by peer",
    }
    command = [
        sys.executable,
        "-m",
        "tests.helpers.failing",
        "--num-samples",
        "2",
        "--name",
        "f",
        *SMALL,
    ]
    process = subprocess.Popen(
        command,
        cwd=here,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out = finish(process, status=1)
    assert "\x1b" not in out
    assert out.count(r"[/pytorch/gloo/pair.cc:534] \x1b[31mConnection closed by peer") >= 2
    folder = here / "results" / "f"
    trials = load_study(folder).trials
    assert Counter(trials["status"]) == {"failed": 2}
    assert trials["error"].str.contains("closed by peer").all()
    assert all(t.state == TrialState.FAIL for t in optuna_trials(folder))
    again = "python -m study.run --resume results/f --retry-failed"
    assert again in out
    assert "2 failed" in run(here, "--resume", "results/f", status=1)  # as they were
    out = run(here, *again.split()[3:])
    results = assert_each_trial_once(folder, 4, {"failed", "complete", "pruned"})
    assert results.trials["status"].tolist()[:2] == ["failed", "failed"]
    assert results.trials["seed"].tolist()[2:] == results.trials["seed"].tolist()[:2]
    assert "4 of 4 trials ended" in out


def test_nothing_that_was_planted_is_unpickled(here):
    """Neither a pickle beside a checkpoint nor one as a failed trial's error is loaded."""
    process = start(here, "--num-samples", "2", "--name", "p", *SMALL, "--scheduler", "none")
    folder = here / "results" / "p"
    wait_until(lambda: list(folder.glob("ray/trial_*/checkpoint_000000/state.pt")), process)
    process.kill()
    process.communicate()
    for trial in folder.glob("ray/trial_*"):
        for name in (*trial.glob("checkpoint_*"), trial):
            for file in ("_dict_checkpoint.pkl", "error.pkl", ".tune_metadata"):
                (name / file).write_bytes(pickle.dumps(Planted(here / "ran")))
    run(here, "--resume", "results/p")
    assert not (here / "ran").exists()
    assert_each_trial_once(folder, 2)


class Planted:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_local_study_listens_on_loopback_only(here):
    process = start(here, "--num-samples", "2", "--name", "p", *SMALL)
    folder = here / "results" / "p"
    wait_until(lambda: any((folder / "ray").glob("trial_*/checkpoint_*")), process)
    family = psutil.Process(process.pid)
    listening = [
        (member.name(), connection.laddr.ip)
        for member in [family, *family.children(recursive=True)]
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    process.send_signal(signal.SIGINT)
    finish(process)
    assert any(name.startswith("raylet") for name, _ in listening)
    assert {ip.rpartition(":")[2] for _, ip in listening} == {"127.0.0.1"}


def test_no_librarys_warning_stands_beside_the_view(here):
    """Optuna calls this sampler experimental."""
    out = run(
        here, "--sampler", "qmc", "--num-samples", "1", "--name", "q", *SMALL, "--epochs", "1"
    )
    assert "Warning" not in out


def test_two_drivers_on_one_folder(here):
    process = start(here, "--num-samples", "99", "--name", "l", *SMALL)
    wait_until((here / "results" / "l" / "study.json").exists, process)
    out = run(here, "--resume", "results/l", status=2)
    assert "another process is running this study" in out
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert len(load_study(here / "results" / "l").study.sessions) == 1


def test_gpus_where_there_are_none(here):
    out = run(here, "--gpus-per-trial", "1", "--name", "g", status=2)
    assert "--gpus-per-trial: 1 GPU asked for" in out
    assert not (here / "results").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_unreachable_address(here, address):
    out = run(here, "--address", address, "--name", "u", status=2)
    assert out.startswith("error: --address: ")
    assert out.count("\n") == 1
    assert not (here / "results").exists()
