"""What a running study keeps on disk: its lock, and checkpoints for as long as needed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from study.console.errors import StorageError, UserError
from study.console.file_errors import way_out
from study.files import is_held
from study.results.lock import check_new_folder, locked
from study.results.tables import load_study
from tests.helpers.simulated import Session, assert_nothing_lost, assert_sound, search_config
from tests.helpers.studies import ROOT

CONFIG = search_config(6, seed=22)  # trials end in every possible way


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "n"


def another_driver(folder, resume):
    """The error that another process gets when it tries to run the study."""
    code = f"""
import sys
from pathlib import Path
from study.console.errors import UserError
from study.results.lock import locked
try:
    with locked(Path(sys.argv[1]), resume={resume}):
        print("runs")
except UserError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("removed", [None, ".lock"])
def test_a_second_driver_is_refused_even_if_the_lock_file_is_removed(folder, resume, removed):
    if resume:
        folder.mkdir(parents=True)
        (folder / "study.json").touch()
        (folder / "optuna.log").touch()
    with locked(folder, resume=resume):
        if removed:
            (folder / removed).unlink()
        told = another_driver(folder, resume=resume)
        assert told == f"{folder}: another process is running this study; wait for it or stop it"
        assert is_held(folder / "optuna.log")
    assert not is_held(folder / "optuna.log")
    assert another_driver(folder, resume=resume) == "runs"


def test_a_study_killed_before_it_began_leaves_its_name_free(folder):
    with locked(folder, resume=False):
        pass
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "optuna.log"]
    check_new_folder(folder)
    (folder / "optuna.log").write_text("{}\n")
    with pytest.raises(UserError, match="already holds other files"):
        check_new_folder(folder)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("status", ["complete", "pruned", "diverged"])
def test_an_ended_trials_history_has_a_second_copy_before_the_tables_are_written(folder, status):
    session = Session(folder, CONFIG, resume=False)
    while status not in [history.status for history in session.acknowledged.values()]:
        if not session.start():
            session.epoch(0)
    session.close()
    assert not (folder / "trials.parquet").exists()
    for file in (folder / "histories").iterdir():
        file.unlink()
    resumed = Session(folder, CONFIG, resume=True)
    assert resumed.recovered.notes == []
    resumed.run()
    assert_nothing_lost(None, load_study(folder), session.acknowledged)
    assert_sound(folder, CONFIG, session.acknowledged)
    complete = load_study(folder).trials.query("status == 'complete'")["trial_id"]
    assert {path.parent.name for path in folder.glob("ray/*/*")} == set(complete)


REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE]


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("name", [None, "histories/trial_00000.npz"])
def test_a_file_system_that_refuses_is_reported_in_one_line(folder, number, name):
    folder.mkdir(parents=True)
    (folder / "study.json").touch()
    cause = OSError(number, os.strerror(number), name and str(folder / name))
    error = RuntimeError("what Ray wraps it in")
    error.__cause__ = cause
    told = str(way_out(error, folder, "python -m …"))
    assert told.startswith(f"{folder / name if name else folder}: {os.strerror(number)}; ")
    room = number in (errno.ENOSPC, errno.EDQUOT)
    cure = "free some space" if room else "fix that"
    assert f"saved: {cure}, then continue with: python -m …" in told
    assert "\n" not in told


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ENOMEM, errno.EUCLEAN])
@pytest.mark.usefixtures("without_ray")
def test_a_table_that_cannot_be_read_is_not_taken_for_lost(folder, monkeypatch, number):
    Session(folder, CONFIG, resume=False).run()

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("study.results.tables.open_plain", refuse)
    with pytest.raises(StorageError, match=r"trials\.parquet: cannot be read"):
        Session(folder, CONFIG, resume=True)
    (folder / "study.json").touch()
    told = str(way_out(OSError(number, os.strerror(number)), folder, "python -m …"))
    assert told.startswith(f"{folder}: {os.strerror(number)}; ")


def test_an_error_of_the_program_is_not_the_file_systems(folder):
    folder.mkdir(parents=True)
    (folder / "study.json").touch()
    for error in (ValueError("x"), BrokenPipeError(errno.EPIPE, "x"), ConnectionResetError()):
        assert way_out(error, folder, "python -m …") is None


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("call", ["os.listdir", "study.results.tables.open_plain"])
def test_what_cannot_be_read_is_not_taken_for_lost(folder, monkeypatch, call):
    Session(folder, CONFIG, resume=False).run()

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(StorageError, match=r"cannot be read \(.*Input/output error"):
            Session(folder, CONFIG, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("number", [*REFUSALS, None])
def test_a_trial_that_the_file_system_refuses_goes_on_later(folder, monkeypatch, number):
    session = Session(folder, CONFIG, resume=False)
    session.start()
    session.epoch(0)
    reason = f"OSError: [Errno {number}] {os.strerror(number)}" if number else "ValueError: x"
    monkeypatch.setattr("study.search.searcher._error_line", lambda trial: reason)
    session.search.on_trial_complete("trial_00000", error=True)
    asked = session.stop.reason()
    status, _ = session.tables.status_of("trial_00000")
    assert (status, asked and asked.startswith(reason)) == (
        ("failed", None) if number is None else ("interrupted", True)
    )
    session.close()


@pytest.mark.usefixtures("without_ray")
def test_the_error_of_an_end_that_was_lost_does_not_stay(folder):
    session = Session(folder, CONFIG, resume=False)
    session.start()
    trial = session.search._live["trial_00000"][0]
    trial.set_user_attr("error", "of before")
    session.run()
    row = load_study(folder).trials.set_index("trial_id").loc["trial_00000"]
    assert row["status"] == "complete"
    assert row.isna()["error"]
