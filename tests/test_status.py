from __future__ import annotations

import io
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from study import status
from study.config.questions import QUESTIONS
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.results.standing import time_in_all
from study.results.study_file import StudyFile
from study.results.tables import in_seconds
from study.search.searcher import open_optuna_study
from tests.conftest import write_study
from tests.helpers.compared import write_comparison
from tests.helpers.studies import SMALL, count_epochs, run, start, wait_until


def shown(folder, uri=None, **options):
    console = Terminal(file=io.StringIO(), **options)
    status.show(console, status.read_status(folder, uri))
    return console.file.getvalue()


def rewrite_session(folder, **changes):
    study = StudyFile.read(folder)
    sessions = (*study.sessions[:-1], replace(study.sessions[-1], **changes))
    replace(study, sessions=sessions).write(folder)


@pytest.fixture
def folder(made_up):
    """A half-finished study of six trials, whose journal is written by Optuna."""
    config = SearchConfig("made-up", space_to_json(DEFAULT_SPACE), num_samples=6, epochs=3)
    replace(StudyFile.read(made_up.path), config=config).write(made_up.path)
    for table in made_up.path.glob("*.parquet"):  # for other trials than those in the journal
        table.unlink()
    journal = open_optuna_study(made_up.path, config)
    ended = [
        ("complete", 0.97),
        ("complete", 0.99),
        ("pruned", 0.5),
        ("diverged", None),
        ("failed", None),
    ]
    for name, value in [*ended, ("running", 0.8)]:
        trial = journal.ask()
        for parameter, distribution in DEFAULT_SPACE.items():
            trial._suggest(parameter, distribution)
        if value:
            trial.report(value, 1)
        if name == "running":
            break
        trial.set_user_attr("status", name)
        trial.set_user_attr("error", f"why it {name}")
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        state = states.get(name, TrialState.FAIL)
        journal.tell(trial, value if name == "complete" else None, state=state)
    return made_up.path


@pytest.fixture
def driver(folder):
    """Another process that holds the study's lock, as a driver does."""
    code = """if True:
        import filelock, sys, time
        lock = filelock.FileLock(sys.argv[1])
        lock.acquire()
        print(flush=True)
        time.sleep(99)
        """
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_a_running_study(folder, driver):
    found = status.read_status(folder)
    assert found.alive
    assert dict(found.counts) == {"complete": 2, "pruned": 1, "diverged": 1, "failed": 1}
    out = shown(folder)
    assert out.startswith("made-up: running on a-host for ")
    assert "5/6 trials ended (2 complete, 1 pruned, 1 diverged, 1 failed), about " in out
    assert "best so far 99.00%  trial_00001  batch=" in out
    rows = [line.split()[:4] for line in out.splitlines() if line.startswith("trial_0000")]
    assert rows[:6] == [
        ["trial_00005", "running", "1/3", "80.00%"],
        ["trial_00004", "failed", "0/3", rows[1][3]],
        ["trial_00003", "diverged", "0/3", rows[2][3]],
        ["trial_00002", "pruned", "1/3", "50.00%"],
        ["trial_00001", "complete", "1/3", "99.00%"],
        ["trial_00000", "complete", "1/3", "97.00%"],
    ]
    assert f"trial_00004 failed: why it failed (see {folder}/ray/trial_00004/error.txt)" in out
    assert "trial_00003 diverged: why it diverged\n" in out


def test_a_killed_study_says_how_to_go_on(folder):
    out = shown(folder)
    assert "not running; stopped or killed" in out
    assert f"\nContinue with:\n  python -m study.run --resume {folder}\n" in out
    assert "trial_00005 interrupted 1/3" in out


def test_a_study_on_a_cluster_goes_on_there(folder):
    rewrite_session(folder, address="auto")
    assert f"--resume {folder} --address auto" in shown(folder)


def test_copies_do_not_say_whether_it_lives(folder):
    out = shown(folder, "s3://bucket/x/made-up")
    assert "last update" in out
    command = "python -m study.run --resume s3://bucket/x/made-up"
    assert f"\nIf its driver has died, continue with:\n  {command}\n" in out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_is_cut_at_any_width(folder, width):
    out = shown(folder, width=width, force_terminal=True)
    assert "…" not in out
    whole = shown(folder)  # as in a pipe
    words = re.findall(r"trial_\d+|\w+=\S+|\d+\.\d+%|\d+/\d+", whole)
    assert re.findall(r"trial_\d+|\w+=\S+|\d+\.\d+%|\d+/\d+", out) == words
    assert f"\n  python -m study.run --resume {folder}\n" in out  # as long as it may be
    command = whole.index("Continue with:")
    assert all(len(line) <= width for line in out[: out.index("trial_00004 failed")].splitlines())
    assert whole[:command].count("batch=") == 7  # the best one and six trials, a line each
    assert all(line.count("width=") == 1 for line in whole.splitlines() if "batch=" in line)


def test_reading_changes_nothing(folder, driver):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("*")}
    shown(folder)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("*")} == before
    assert driver.poll() is None


def test_a_half_line_is_waited_for(folder):
    with (folder / "optuna.log").open("ab") as file:
        file.write(b'{"op_code": 6, "tri')
    assert status.read_status(folder).counts.total() == 5


def test_a_comparison_and_one_before_its_first_trial(tmp_path):
    folder = tmp_path / "c"
    write_comparison(folder, QUESTIONS["batch-size"].select(None))
    for table in folder.glob("*.parquet"):
        table.unlink()
    out = shown(folder)
    assert "0/" in out
    assert "python -m study.compare --resume" in out


def test_what_resuming_would_refuse_is_refused(made_up, capsys):
    """A study that lost its journal is not shown as one that has yet to begin."""
    assert status.main([str(made_up.path)]) == 2
    assert "optuna.log: missing or empty, but the study has results" in capsys.readouterr().err


def test_bad_input_is_one_line(folder, tmp_path, capsys):
    (folder / "optuna.log").write_text('{"op_code": 99}\n')
    assert status.main([str(folder)]) == 2
    assert status.main([str(tmp_path / "nowhere")]) == 2
    damaged, missing = capsys.readouterr().err.splitlines()
    assert "optuna.log: damaged" in damaged
    assert "not a study (no such folder)" in missing


@pytest.mark.parametrize("name", ["optuna.log", "study.json"])
def test_a_folder_in_place_of_a_file_is_one_line(folder, capsys, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert status.main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder}")


def test_a_lock_that_is_a_folder_is_refused(folder):
    (folder / ".lock").mkdir()
    with pytest.raises(UserError, match="is a folder, not a file"):
        status.read_status(folder)


@pytest.mark.parametrize("place", ["x" * 256, "x/" * 3000, "", "a\nb"])
def test_an_impossible_folder_is_one_line(place, capsys):
    with pytest.raises(SystemExit) as end:
        status.main([place])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "s3:///x", "s3://b/x?endpoint_override=y"])
def test_an_impossible_uri_is_one_line(uri, capsys):
    assert status.main([uri]) == 2
    assert f"error: DIR: {uri!r} is not of the form s3://BUCKET/FOLDER" in capsys.readouterr().err


def test_what_the_files_say_is_shown_and_not_obeyed(folder):
    rewrite_session(folder, host="\x1b[31mh[/b]\nmade-up: finished", address="a; touch x #")
    journal = folder / "optuna.log"
    text = journal.read_text()
    hostile = r"[/pytorch/pair.cc:534] \u001b]0;title\u0007 \nmade-up: finished"
    assert "why it failed" in text
    journal.write_text(text.replace("why it failed", hostile))
    out = shown(folder)
    assert r"trial_00004 failed: [/pytorch/pair.cc:534] \x1b]0;title\x07 \nmade-up: finished" in out
    assert f"--resume {folder} --address 'a; touch x #'" in out
    assert out.replace("\n", "").isprintable()
    assert "\nmade-up: finished" not in shown(folder, "s3://b/made-up")


def test_a_lock_of_nobody_is_no_driver(folder):
    (folder / ".lock").touch()
    assert status.read_status(folder).alive is False


def several_sessions(folder, *starts):
    study = StudyFile.read(folder)
    times = [datetime.fromtimestamp(start, UTC).isoformat() for start in starts]
    sessions = tuple(replace(study.sessions[-1], started=time) for time in times)
    replace(study, sessions=sessions).write(folder)


def test_the_time_of_all_sessions(made_up):
    # Trial n's epoch i ended at 1e9 + 100 n + 2 i; the last one is epoch 2 of trial 8.
    several_sessions(made_up.path, 1e9, 1e9 + 500, 1e9 + 600)
    study = StudyFile.read(made_up.path)
    times = in_seconds(made_up.epochs["epoch_ended"]).tolist()
    # From 0 to 402, nothing after 500 but one epoch of trial 5, and from 600 to 804.
    assert time_in_all(study.sessions, times) == "10m08s in all, 3 sessions"
    assert time_in_all(study.sessions[:1], times) == ""
    assert time_in_all(study.sessions, [*times, math.nan]) == "3 sessions"  # an earlier format
    assert time_in_all(study.sessions, []) == "3 sessions"


def test_status_says_the_time_of_all_sessions(folder, driver, monkeypatch):
    monkeypatch.setattr("study.results.status.time", SimpleNamespace(time=lambda: 2e9))
    several_sessions(folder, 2e9 - 4000, 2e9 - 60)
    assert "; 1m00s in all, 2 sessions\n" in shown(folder)


class Watched:
    """A study whose status is read without waiting; `events` happen one by one at each read."""

    def __init__(self, monkeypatch, *events):
        self.events = list(events)
        self.slept = 0
        clock = SimpleNamespace(time=time.time, sleep=self.sleep)
        monkeypatch.setattr(status, "time", clock)

    def sleep(self, seconds):
        assert seconds == status.REFRESH_S
        self.slept += 1
        self.events.pop(0)()


def watched(folder):
    console = Terminal(file=io.StringIO(), force_terminal=True, width=80)
    status.watch(console, lambda: status.read_status(folder))
    return console.file.getvalue()


def interrupt():
    raise KeyboardInterrupt


def test_a_watch_waits_for_a_session_and_ends_with_it(folder, monkeypatch):
    alive = [False]
    monkeypatch.setattr("study.results.status.has_driver", lambda folder: alive[0])
    begin, end = (lambda: alive.__setitem__(0, True)), (lambda: alive.__setitem__(0, False))
    watch = Watched(monkeypatch, lambda: None, begin, lambda: None, end)
    out = watched(folder)
    assert watch.slept == 4
    command = f"Continue with:\n  python -m study.run --resume {folder}\n"
    assert out.index(command) < out.index("Waits for a session to begin.")
    assert out.index("Waits for a session to begin.") < out.index("running on a-host")
    assert out.endswith(command)


def test_ctrl_c_ends_a_watch_with_the_state_so_far(folder, driver, monkeypatch):
    Watched(monkeypatch, lambda: None, interrupt)
    out = watched(folder)
    assert "Ctrl-C ends this view; it stops no study." in out
    assert out.rindex("running on a-host") > out.rindex("Ctrl-C")
    assert driver.poll() is None


def test_without_a_folder_the_studies_are_listed(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    results = folder.parent
    compared = results / "compared"
    write_comparison(compared, QUESTIONS["batch-size"].select(["64", "512"]))
    (results / "notes").mkdir()
    (results / "damaged").mkdir()
    (results / "damaged" / "study.json").write_text("{")
    for age, name in enumerate(["compared", "damaged", "made-up"]):
        for file in ("study.json", "optuna.log"):
            if (results / name / file).exists():
                os.utime(results / name / file, (1e9 - age, 1e9 - age))
    assert status.main([]) == 0
    out = capsys.readouterr().out
    assert status.main(["results"]) == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "study",
        *("compared", "damaged", "made-up"),
    ]
    _, second, third, fourth = out.splitlines()
    assert re.search(r"\d+d\d+h ago +comparison: finished, \d+ trials; ", second)
    assert "study.json: damaged (not JSON); restore it from a copy" in third
    assert "search: interrupted, 5 of 6 trials ended; best 99.00% (trial_00001)" in fourth


def test_a_running_study_and_results_without_a_journal_are_listed(folder, driver, made_up, capsys):
    tables_only = folder.parent / "tables"
    tables_only.mkdir()
    write_study(tables_only)
    assert status.main([str(folder.parent)]) == 0
    out = capsys.readouterr().out
    assert "search: running, 5 of 6 trials ended; best 99.00% (trial_00001)" in out
    assert "search: interrupted, 8 of 9 trials ended; best 99.00% (trial_00001)" in out


def test_a_list_cannot_be_watched_and_may_be_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status.main(["--watch"]) == 2
    assert "--watch: needs one study; give a folder like results/NAME" in capsys.readouterr().err
    assert status.main([]) == 0
    assert "No studies in results yet. To begin one: python -m study.run" in capsys.readouterr().out


def test_from_an_object_store(folder, bucket, capsys):
    from study.results.storage import Storage

    Storage(folder, f"{bucket}/x/made-up").push()
    assert status.main([f"{bucket}/x/made-up"]) == 0
    assert "5/6 trials ended" in capsys.readouterr().out
    assert status.main([f"{bucket}/x/none"]) == 2


@pytest.mark.slow
def test_a_real_study_from_beginning_to_end(tmp_path, mnist):
    folder = tmp_path / "results" / "n"
    process = start(tmp_path, "--num-samples", "3", "--name", "n", *SMALL)
    wait_until(lambda: count_epochs(folder) >= 2, process)
    assert ": running on " in shown(folder)
    process.kill()
    process.communicate()
    assert "not running" in shown(folder)
    run(tmp_path, "--resume", "results/n")
    assert "3/3 trials ended" in shown(folder)
    assert ": finished" in shown(folder)
