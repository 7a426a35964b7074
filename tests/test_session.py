"""The commands and their sessions, from the command line to the closing messages, without Ray.

`tests.helpers.simulated` takes Ray's place. Studies that Ray itself runs are in test_search.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from study import compare, run
from study.cluster.head import _arguments
from study.cluster.joining import Slots
from study.config.search import SearchConfig
from study.console.errors import UserError
from study.results.history import ENDS
from study.results.lock import locked
from study.results.tables import load_study
from tests.helpers.commands import before_epoch, play_ray, the_command_after
from tests.helpers.simulated import images


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, tmp_path):
    play_ray(monkeypatch, tmp_path)


SEARCH = ("--name", "a", "--num-samples", "8", "--epochs", "3", "--sampler", "random")
COMPARISON = ("batch-size", "--arms", "64", "512", "--replicates", "3", "--epochs", "3")


def another_driver(folder=Path("results/a")):
    """The error of another driver. The locks are the files', so no second process is needed."""
    try:
        with locked(folder, resume=True):
            return "runs"
    except UserError as error:
        return str(error)


def assert_equal_studies(one, other):
    for table in ("trials", "epochs", "steps"):
        left, right = (getattr(load_study(folder), table) for folder in (one, other))
        keys = [name for name in ("trial_id", "epoch", "step") if name in left]
        left, right = (frame.sort_values(keys).reset_index(drop=True) for frame in (left, right))
        assert left.equals(right), table


def test_a_search_from_the_command_to_the_last_words(capsys):
    environment = dict(os.environ)
    assert run.main([*SEARCH]) == 0
    out = capsys.readouterr().out
    trials = load_study("results/a").trials
    counts = trials["status"].value_counts()
    assert len(trials) == 8
    in_order = [f"{counts[s]} {s}" for s in ENDS if s in counts]
    assert f"8 of 8 trials ended ({', '.join(in_order)}) in " in out
    best = trials[trials["status"] == "complete"].nlargest(1, "last_eval_accuracy").iloc[0]
    below = out[out.index("Best complete trials") :].splitlines()[2]
    assert below.split()[:2] == [best["trial_id"], f"{best['last_eval_accuracy']:.2%}"]
    assert the_command_after("Next:", out) == ("study.finalize", ["results/a"])
    assert "\n  python -m analysis.report results/a\n" in out
    assert "--resume results/a --num-samples 16" in out
    assert dict(os.environ) == environment
    assert another_driver() == "runs"


def test_each_wait_says_what_is_done(monkeypatch):
    waits = []

    def status(self, words, **_):
        waits.append(words.partition(";")[0])
        return nullcontext()

    monkeypatch.setattr("study.console.terminal.Terminal.status", status)
    assert run.main([*SEARCH]) == 0
    new = waits.copy()
    waits.clear()
    assert run.main(["--resume", "results/a"]) == 0
    of_session = [
        "Loading Ray and PyTorch …",
        "Reading what earlier sessions left …",
        "Checking the mnist files",
        "Starting Ray …",
        "Checking the nodes and compiling the kernels …",
        "Writing the tables …",
        "Reading the tables …",
    ]
    assert new == [words for words in of_session if "earlier" not in words]
    assert waits == of_session


def test_a_comparison_is_run_and_extended(capsys):
    assert compare.main([*COMPARISON, "--name", "a"]) == 0
    before = load_study("results/a").trials
    out = capsys.readouterr().out
    assert "On the validation images, after the last epoch:" in out
    assert compare.main(["--resume", "results/a", "--replicates", "4"]) == 0
    after = load_study("results/a").trials
    assert "sessions" not in out
    assert " in all, 2 sessions)" in capsys.readouterr().out
    assert (len(before), len(after)) == (6, 8)
    assert after.head(6).equals(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_printed_command_goes_on(monkeypatch, capsys, number):
    assert compare.main([*COMPARISON, "--name", "a"]) == 0
    Path("results/a").rename("results/undisturbed")
    capsys.readouterr()
    with monkeypatch.context() as patch:
        before_epoch(patch, 4, lambda: os.kill(os.getpid(), number))
        assert compare.main([*COMPARISON, "--name", "a"]) == 0
    out = capsys.readouterr().out
    assert "Stopping; finished epochs are saved" in out
    assert len(load_study("results/a").trials) < 6
    module, arguments = the_command_after(f"Ended early: stopped by {number.name}.", out)
    assert module == "study.compare"
    assert compare.main(arguments) == 0
    assert_equal_studies("results/a", "results/undisturbed")


def test_a_signal_before_the_first_trial_stops_as_cleanly(monkeypatch, capsys):
    def load(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        return images(), images()

    with monkeypatch.context() as patch:
        patch.setattr("study.data.images.load_splits", load)
        assert run.main([*SEARCH]) == 0
    out = capsys.readouterr().out
    _, arguments = the_command_after("Ended early: stopped by SIGTERM.", out)
    assert "No trial is complete yet, so there is no best one." in out
    assert "Best complete trials" not in out
    assert "study.finalize" not in out
    assert "nan" not in out
    assert run.main(arguments) == 0
    assert len(load_study("results/a").trials) == 8


@pytest.mark.parametrize("joined", [False, True])
def test_only_a_joined_cluster_can_grow(monkeypatch, joined):
    asked = []

    def plan(*_, elastic):
        asked.append(elastic)
        return Slots(1, 0, 2, 1)

    monkeypatch.setattr("study.cluster.joining.plan_slots", plan)
    monkeypatch.setattr("study.run.runs_on_head", lambda _: False)
    assert run.main([*SEARCH, *(["--address", "auto"] if joined else [])]) == 0
    assert asked == [joined]


@pytest.mark.parametrize("gpus", [0, 1])
def test_trials_use_a_gpu_only_if_they_have_one(monkeypatch, gpus):
    asked = []

    def with_parameters(trainable, **more):
        asked.append(more["gpu"])
        return trainable

    monkeypatch.setattr("study.cluster.joining.plan_slots", lambda *_, **__: Slots(1, gpus, 2, 1))
    monkeypatch.setattr("ray.tune.with_parameters", with_parameters)
    assert run.main([*SEARCH]) == 0
    assert asked == [gpus > 0]


def test_what_makes_trials_slow_is_said_before_the_first(monkeypatch, capsys):
    monkeypatch.setattr("study.search.node_checks.check", lambda *_, **__: ["node a: is slow."])
    assert run.main([*SEARCH]) == 0
    out = capsys.readouterr().out
    assert out.index("\nnode a: is slow.\n") < out.index("trial_00000")


def test_a_spent_time_budget_stops(capsys):
    assert run.main([*SEARCH, "--time-budget", "0.000001"]) == 0
    assert "Ended early: the time budget is used up. Continue with:" in capsys.readouterr().out


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_one_line_and_the_study_goes_on(monkeypatch, capsys, wrapped):
    def fill():
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/a/histories")
        if wrapped:
            raise RuntimeError("as Ray says it") from error
        raise error

    with monkeypatch.context() as patch:
        before_epoch(patch, 5, fill)
        assert run.main([*SEARCH]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        "error: results/a/histories: No space left on device; finished work is saved: "
        "free some space, then continue with: python -m study.run --resume results/a\n"
    )
    assert another_driver() == "runs"
    assert run.main(["--resume", "results/a"]) == 0
    assert len(load_study("results/a").trials) == 8


def test_a_study_without_a_result_exits_1_and_its_failures_run_again(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("tests.helpers.simulated.end_of", lambda config: ("failed", 1))
        assert run.main([*SEARCH]) == 1
        out = capsys.readouterr().out
        assert "All trials failed or diverged: exit status 1." in out
    module, arguments = the_command_after("8 failed. Once the cause is fixed", out)
    assert (module, arguments) == ("study.run", ["--resume", "results/a", "--retry-failed"])
    assert run.main(arguments) == 0
    assert "Failed trials to run again: 8." in capsys.readouterr().out
    assert load_study("results/a").trials["status"].value_counts()["failed"] == 8


@pytest.mark.parametrize(
    "part",
    [
        "study.data.sources.fetch",
        "study.cluster.joining.connect",
        "study.cluster.joining.plan_slots",
        "study.search.node_checks.check",
    ],
)
def test_nothing_is_written_before_all_is_known_to_be_there(monkeypatch, capsys, tmp_path, part):
    def refuse(*args, **more):
        raise UserError("--thing: is missing; get it")

    monkeypatch.setattr(part, refuse)
    assert run.main([*SEARCH]) == 2
    assert capsys.readouterr().err == "error: --thing: is missing; get it\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moment", ["study.data.sources.fetch", "study.cluster.joining.connect"])
def test_a_resumed_study_is_locked_from_its_opening_to_its_end(monkeypatch, moment):
    assert run.main([*SEARCH]) == 0
    told = []
    monkeypatch.setattr(moment, lambda *_: told.append(another_driver()))
    before_epoch(monkeypatch, 2, lambda: told.append(another_driver()))
    assert run.main(["--resume", "results/a", "--num-samples", "10"]) == 0
    assert len(told) == 2
    assert all("another process is running this study" in words for words in told)
    assert another_driver() == "runs"


def test_a_study_of_another_kind_is_left_as_it_is(capsys, tmp_path):
    assert run.main([*SEARCH]) == 0
    capsys.readouterr()
    folder = tmp_path / "results" / "a"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert compare.main(["--resume", "results/a"]) == 2
    assert capsys.readouterr().err == (
        "error: --resume: results/a holds a search; continue it with: python -m study.run "
        "--resume results/a\n"
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_is_no_study_gets_no_lock(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert run.main(["--resume", "mine"]) == 2
    assert "mine: not a study (no study.json)" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(
    ("argv", "new", "on_head"),
    [
        (
            ["--num-samples", "3", "--address", "ray://h:1"],
            "n",
            ["--num-samples", "3", "--name", "n", "--results-dir", "{here}/results"],
        ),
        (
            ["--resume", "results/a", "--address=ray://h:1"],
            None,
            ["--resume", "{here}/results/a", "--results-dir", "{here}/results"],
        ),
        (
            ["--resume", "s3://b/a", "--results-dir", "r"],
            None,
            ["--resume", "s3://b/a", "--results-dir", "{here}/r"],
        ),
    ],
)
def test_what_the_head_is_asked(tmp_path, argv, new, on_head):
    args = run.make_parser().parse_args(argv)
    config = new and SearchConfig(new, run.new_config(run.make_parser().parse_args([])).space)
    assert _arguments(args, argv, config) == [word.format(here=tmp_path) for word in on_head]


@pytest.mark.parametrize("module", ["study.run", "study.compare"])
def test_a_wrong_option_is_answered_before_anything_heavy_is_imported(module):
    code = (
        f"import sys; from {module} import main; status = main(['--resume', 'nowhere', "
        "'--max-concurrent', '0']); print(status, sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
