"""The searcher without Ray processes: how each end of a trial is recorded in Optuna."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Experiment, Trial
from ray.tune.schedulers import ASHAScheduler

from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.console.errors import UserError
from study.results.history import History
from study.results.journal import JOURNAL_FILE, trial_status
from study.results.recovery import recover
from study.results.storage import Storage
from study.search.early_stopping import replay
from study.search.searcher import StudySearch, open_optuna_study
from study.search.stop_request import StopRequest

# One point fixed in advance: the paper's.
FEW = {"num_samples": 6, "epochs": 3, "sampler": "random"}


def config(**kwargs):
    return SearchConfig("s", space_to_json(DEFAULT_SPACE), **{**FEW, **kwargs})


def never_runs(config):
    raise AssertionError


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Open the study as a new session does. Returns (search, Optuna study)."""

    def open_session(max_concurrent=2, **kwargs):
        storage = Storage(tmp_path)
        recovered = recover(storage, config(**kwargs))
        study = open_optuna_study(tmp_path, config(**kwargs))
        search = StudySearch(
            study, config(**kwargs), max_concurrent, storage, recovered, StopRequest()
        )
        experiment = Experiment(
            "ray", never_runs, storage_path=str(tmp_path), checkpoint_config=tune.CheckpointConfig()
        )
        search.add_configurations([experiment])
        return search, study

    return open_session


def result(epoch, accuracy=0.9, diverged=False):
    return {"epoch": epoch, "eval_accuracy": accuracy, "diverged": diverged}


def run_trial(search, trial, epochs, accuracy=0.9, diverged=False):
    for epoch in range(1, epochs):
        search.on_trial_result(trial.trial_id, result(epoch, accuracy - 0.1))
    save_checkpoint(search._storage.folder, trial, epochs, accuracy=accuracy)
    # Ray reports the last epoch of a stopped trial only here.
    search.on_trial_complete(trial.trial_id, result(epochs, accuracy, diverged))


def save_checkpoint(tmp_path, trial, epochs, eval_loss=0.1, accuracy=0.9):
    folder = tmp_path / "ray" / trial.trial_id / f"checkpoint_{epochs - 1:06d}"
    folder.mkdir(parents=True)
    torch.save({}, folder / "state.pt")
    rows = [
        {
            "epoch": e,
            "step": e,
            "examples_seen": e,
            "epoch_lr": 1.0,
            "train_loss": 0.1,
            "eval_loss": eval_loss,
            "eval_accuracy": accuracy,
            "epoch_seconds": 1.0,
            "eval_seconds": 0.1,
            "epoch_ended": 10.0 * e,
        }
        for e in range(1, epochs + 1)
    ]
    losses = [np.zeros(1, np.float32)] * epochs
    History(rows, losses, [1], {}, config=trial.config).save(folder)
    return folder


def test_first_trial_is_the_reports_configuration(begin):
    search, _ = begin()
    trial = search.next_trial()
    assert trial.trial_id == "trial_00000"
    params = {name: trial.config[name] for name in DEFAULT_SPACE}
    assert params == {"batch_size": 512, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}


def test_states_values_and_ray_ids(begin):
    search, study = begin()
    for epochs, accuracy, diverged in [(3, 0.98, False), (1, 0.5, False), (2, math.nan, True)]:
        run_trial(search, search.next_trial(), epochs, accuracy, diverged)
    failing = search.next_trial()
    search.on_trial_complete(failing.trial_id, error=True)
    trials = study.trials
    assert [t.state for t in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert [trial_status(t) for t in trials] == ["complete", "pruned", "diverged", "failed"]
    assert trials[0].value == 0.98
    assert trials[0].intermediate_values == {1: 0.88, 2: 0.88, 3: 0.98}
    assert trials[1].value == 0.5  # the value at which it was stopped
    assert trials[1].intermediate_values == {1: 0.5}
    assert trials[2].user_attrs["error"] == "loss not finite in epoch 2"
    assert trials[3].user_attrs["error"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Traceback\nError: \xff no text\n", "Error: \N{REPLACEMENT CHARACTER} no text"),
        (b"", "ended without a result"),
        (None, "ended without a result"),
    ],
)
def test_the_last_line_of_a_failed_trials_log_is_its_error(
    begin, tmp_path, monkeypatch, content, reason
):
    """The last line is the error, even if the file holds odd bytes or is a folder."""
    search, study = begin()
    trial = search.next_trial()
    log = tmp_path / "error.txt"
    monkeypatch.setattr("study.cluster.ray_private.StudyTrial.error_file", str(log))
    trial.relative_logdir = trial.trial_id
    if content is None:
        log.mkdir()
    else:
        log.write_bytes(content)
    search.on_trial_complete(trial.trial_id, error=True)
    assert study.trials[0].user_attrs["error"] == reason


def test_no_more_than_max_concurrent_and_num_samples(begin):
    search, study = begin(max_concurrent=2, num_samples=3)
    first, second = search.next_trial(), search.next_trial()
    assert search.next_trial() is None
    run_trial(search, first, 3)
    third = search.next_trial()
    assert third is not None
    assert search.is_finished()
    run_trial(search, second, 1)
    run_trial(search, third, 1)
    assert search.next_trial() is None
    assert len(study.trials) == 3


def test_trials_have_seeds_of_their_own_that_do_not_depend_on_the_session(begin):
    search, _ = begin()
    seeds = [search.next_trial().config["seed"] for _ in range(2)]
    assert len(set(seeds)) == 2
    search, _ = begin()
    assert [search.next_trial().config["seed"] for _ in range(2)] == seeds


def test_a_new_session_gets_each_unfinished_trial_once(begin, tmp_path):
    search, _ = begin()
    complete, interrupted = search.next_trial(), search.next_trial()
    run_trial(search, complete, 3)
    search.on_trial_result(interrupted.trial_id, result(1))
    search.on_trial_result(interrupted.trial_id, result(2))  # its checkpoint was lost
    newest = save_checkpoint(tmp_path, interrupted, 1)
    never_ran = search.next_trial()

    search, study = begin(max_concurrent=6)
    trials = [search.next_trial() for _ in range(5)]
    assert search.next_trial() is None
    assert [t.trial_id for t in trials] == [f"trial_{n:05d}" for n in range(1, 6)]
    assert [t.status for t in trials] == [Trial.PENDING] * 5
    assert trials[0].checkpoint.path == str(newest)
    assert trials[0].config == interrupted.config
    assert trials[1].checkpoint is None
    assert trials[1].config == never_ran.config
    for trial in trials:
        run_trial(search, trial, 3)
    assert [t.number for t in study.trials] == list(range(6))
    assert all(t.state == TrialState.COMPLETE for t in study.trials)


def test_a_trial_killed_before_its_end_was_recorded_is_ended(begin, tmp_path):
    search, _ = begin()
    done, diverged = search.next_trial(), search.next_trial()
    save_checkpoint(tmp_path, done, 3)
    save_checkpoint(tmp_path, diverged, 1, eval_loss=math.nan)
    search, study = begin()
    assert search.next_trial().trial_id == "trial_00002"
    assert [trial_status(t) for t in study.trials[:2]] == ["complete", "diverged"]


def test_a_trial_killed_while_it_was_asked_is_completed(begin):
    """Each parameter has its own line in the journal."""
    search, study = begin()
    search.next_trial()
    half = study.ask()
    half.suggest_categorical("batch_size", (32, 64, 128, 256, 512, 1024))
    search, study = begin()
    revived = [search.next_trial() for _ in range(2)][1]
    assert revived.config["batch_size"] == half.params["batch_size"]
    assert set(study.trials[1].params) == set(DEFAULT_SPACE)
    assert len(study.trials) == 2


@pytest.mark.parametrize("tail", [b'{"op_code":4,"work', b"x"])
def test_half_a_line_and_a_stale_lock_are_cleared(begin, tmp_path, tail):
    search, _ = begin()
    run_trial(search, search.next_trial(), 3)
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(tail)
    (tmp_path / f"{JOURNAL_FILE}.lock").symlink_to(tmp_path / JOURNAL_FILE)
    search, study = begin()
    assert [trial_status(t) for t in study.trials] == ["complete"]
    run_trial(search, search.next_trial(), 3)  # a new one
    assert len(open_optuna_study(tmp_path, config()).trials) == 2


def test_a_study_of_another_space_is_refused(begin, tmp_path):
    begin()
    with pytest.raises(UserError, match=r"\(epochs was 3 and is 5\)"):
        begin(epochs=5)
    (tmp_path / JOURNAL_FILE).write_text("no journal\nat all\n")
    with pytest.raises(UserError, match="damaged"):
        begin()


def test_the_journal_opens_with_plain_optuna(begin, tmp_path):
    search, _ = begin()
    run_trial(search, search.next_trial(), 3, 0.98)
    code = (
        "import optuna, sys; from optuna.storages.journal import JournalFileBackend as B;"
        "s = optuna.load_study(study_name=None, "
        "storage=optuna.storages.JournalStorage(B(sys.argv[1])));"
        "print(s.study_name, s.direction.name, s.best_value)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / JOURNAL_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["s", "MAXIMIZE", "0.98"]


def test_replayed_asha_decides_like_one_that_saw_the_trials():
    def asha():
        return ASHAScheduler("epoch", "eval_accuracy", "max", max_t=9, reduction_factor=3)

    rng = np.random.default_rng(3)
    values = rng.random((12, 3))
    seen = asha()
    for number, row in enumerate(values):
        trial = SimpleNamespace(trial_id=f"trial_{number:05d}")
        seen.on_trial_add(None, trial)
        for epoch, value in enumerate(row, 1):
            seen.on_trial_result(None, trial, {"epoch": epoch, "eval_accuracy": value})
    replayed = asha()
    frozen = [
        SimpleNamespace(number=n, intermediate_values=dict(enumerate(row, 1)))
        for n, row in enumerate(values)
    ]
    replay(replayed, frozen, "eval_accuracy")
    assert replayed.debug_string().splitlines()[1:] == seen.debug_string().splitlines()[1:]
    for value in np.linspace(0, 1, 11):
        newcomer = SimpleNamespace(trial_id=f"new {value}")
        decisions = []
        for scheduler in (seen, replayed):
            scheduler.on_trial_add(None, newcomer)
            decisions.append(
                scheduler.on_trial_result(None, newcomer, {"epoch": 1, "eval_accuracy": value})
            )
        assert decisions[0] == decisions[1]
