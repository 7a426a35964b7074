"""A malicious study folder: nothing in it is run, and no link out of it is followed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import shutil
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.results.history import History
from study.results.storage import Storage
from study.results.study_file import StudyFile
from study.results.tables import load_study
from study.search.trainable import TrialTrainable
from study.status import read_status
from tests.helpers.simulated import Session, assert_sound, run_study, search_config

pytestmark = pytest.mark.usefixtures("without_ray")
CONFIG = search_config(5, seed=20)
TOKEN = b"a token without a newline"
# Files that Ray unpickles, or might.
PICKLES = (
    "_dict_checkpoint.pkl",
    ".tune_metadata",
    "error.pkl",
    "tuner.pkl",
    "trainable.pkl",
    "params.pkl",
    "searcher-state-2026-11-24_20-13-44.pkl",
)
FILES = (
    "study.json",
    "optuna.log",
    "trials.parquet",
    "epochs.parquet",
    "steps.parquet",
    "histories/trial_00000.npz",
    ".lock",
    ".part-x",
    "ray/x",
)
FOLDERS = ("histories", "ray", "ray/trial_00000", "x")


@pytest.fixture(scope="module")
def made(tmp_path_factory, without_ray):
    """A study with ended trials, and one that has two checkpoints."""
    folder = tmp_path_factory.mktemp("made") / "n"
    session = Session(folder, CONFIG, resume=False)
    while len(session.acknowledged) < 2 or all(r.epochs != 2 for r in session.running.values()):
        if not session.start():
            session.epoch(0)
    session.tables.write()
    session.close()
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the study, beside things that must not be touched."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(TOKEN)
    return Path(shutil.copytree(made, tmp_path / "gift" / "n"))


@pytest.fixture
def ran(tmp_path):
    """The file that a planted pickle creates."""
    return tmp_path / "ran"


class Planted:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def newest_checkpoint(folder: Path) -> Path:
    """The folder of the trial that has not ended."""
    return next(folder.glob("ray/*/checkpoint_000000")).with_name("checkpoint_000001")


def found_in(folder: Path, trial_id: str) -> str:
    """The checkpoint from which a trial would continue."""
    newest = folder / "ray" / trial_id / "checkpoint_000000" / "history.npz"
    made_with = TrialConfig(**History.read(newest.read_bytes()).config)
    found = Storage(folder).newest_checkpoint(trial_id, made_with, resumable=True)
    return Path(found[0]).name


def content_of(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder, without following links."""
    found: dict[str, bytes | str] = {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            else:
                found[key] = path.read_bytes() if path.is_file() else "not a file"
    return found


def assert_nothing_outside(folder: Path) -> None:
    outside = content_of(folder.parents[1])
    names = {name for name in outside if not name.startswith("gift/n/")}
    assert names == {"gift", "gift/n", "precious", "precious/file"}
    assert outside["precious/file"] == TOKEN


def resume(folder: Path) -> None:
    run_study(folder, StudyFile.read(folder).config, resume=True)


def outcome(run, folder: Path) -> Exception | None:
    """The one-line error of a command, if it has one. Fails if the command hangs."""
    errors: list[Exception | None] = []

    def call() -> None:
        try:
            run(folder)
            errors.append(None)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert errors, "it waits for ever"
    if (error := errors[0]) is not None:
        assert isinstance(error, UserError), repr(error)
        assert str(error).isprintable(), str(error)
    return error


def plant_in_journal(folder: Path, pickled: bytes) -> None:
    """Put a pickle where Optuna's CMA-ES keeps its state: in each complete trial."""
    journal = folder / "optuna.log"
    lines = []
    for line in journal.read_text().splitlines():
        op = json.loads(line)
        if op["op_code"] == 6 and op["state"] == 1:
            state = {"cma:optimizer:0": pickled.hex()}
            system = {"op_code": 9, "worker_id": "x", "trial_id": op["trial_id"]}
            lines.append(json.dumps({**system, "system_attr": state}))
        lines.append(line)
    journal.write_text("".join(f"{line}\n" for line in lines))


def assert_refused(folder: Path, name: str) -> None:
    """Commands that write must refuse it. The others may read it or refuse it."""
    lock = folder / ".lock"
    before = content_of(folder)
    for command in (read_status, load_study):
        outcome(command, folder)
    error = outcome(resume, folder)
    assert error is not None
    assert name in str(error), error
    if ".lock" not in before:
        lock.unlink(missing_ok=True)
    assert content_of(folder) == before
    assert_nothing_outside(folder)


# Pickles.


def test_planted_pickles_are_not_unpickled(folder, ran):
    newest = newest_checkpoint(folder)
    assert found_in(folder, newest.parent.name) == "checkpoint_000001"
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        for name in PICKLES:
            (place / name).write_bytes(pickle.dumps(Planted(ran)))
    resume(folder)
    assert not ran.exists()
    assert_sound(folder, CONFIG, {})


def test_a_pickle_in_the_journal_is_not_unpickled(tmp_path, ran):
    folder, config = tmp_path / "n", search_config(4, seed=20, sampler="cmaes")
    run_study(folder, config)
    plant_in_journal(folder, pickle.dumps(Planted(ran)))
    larger = dataclasses.replace(config, num_samples=8)
    run_study(folder, larger, resume=True)
    assert not ran.exists()
    assert_sound(folder, larger, {})


@pytest.mark.parametrize("name", [*PICKLES, "x"])
def test_a_checkpoint_with_anything_else_in_it_is_skipped(folder, name):
    newest = newest_checkpoint(folder)
    (newest / name).write_bytes(b"")
    assert found_in(folder, newest.parent.name) == "checkpoint_000000"
    (newest / name).unlink()
    (newest / name).mkdir()
    assert found_in(folder, newest.parent.name) == "checkpoint_000000"


def test_a_networks_state_is_only_read_as_weights(tmp_path, ran):
    torch.save({"config": Planted(ran)}, tmp_path / "state.pt")
    trainable: Any = SimpleNamespace(trainer=SimpleNamespace(load_state_dict=lambda state: None))
    with pytest.raises(pickle.UnpicklingError):
        TrialTrainable.load_checkpoint(trainable, str(tmp_path))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["meta", "losses", "log_p"])
def test_a_history_is_only_read_as_numbers(folder, ran, name):
    newest = newest_checkpoint(folder)
    objects = np.array([Planted(ran)], object)
    for file in (newest / "history.npz", folder / "histories" / "trial_00000.npz"):
        with np.load(file) as arrays:
            planted = {**arrays, name: objects}
        np.savez(file, **planted)
    assert found_in(folder, newest.parent.name) == "checkpoint_000000"
    resume(folder)
    assert not ran.exists()
    assert_sound(folder, CONFIG, {})


# Links, pipes and names.


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@pytest.mark.parametrize("to", ["precious", "itself", "nothing", "the real one"])
def test_links_are_refused_and_nothing_is_written_through_them(folder, name, to, tmp_path):
    path = folder / name
    is_folder = path.is_dir() or name in FOLDERS
    target = {
        "precious": tmp_path / "precious" / ("" if is_folder else "file"),
        "itself": path,
        "nothing": tmp_path / "nothing",
        "the real one": folder / f"{path.name} real",
    }[to]
    if path.exists():
        path.rename(folder / f"{path.name} real")
    elif to == "the real one":
        target.mkdir() if is_folder else target.write_bytes(b"")
    path.symlink_to(target)
    # It is not a study if study.json is missing or is something else.
    assert_refused(folder, "study" if name == "study.json" else path.name)


@pytest.mark.parametrize(
    "name", ["optuna.log.lock", "optuna.log.lockx.rename", ".part-x", "histories/.part-x"]
)
def test_a_folder_in_place_of_what_is_cleared_away_is_refused(folder, name):
    (folder / name / "x").mkdir(parents=True)
    assert_refused(folder, Path(name).name)
    with pytest.raises(UserError, match="is a folder, not a file; remove it"):
        read_status(folder)


@pytest.mark.parametrize("name", ["state.pt", "history.npz", "x"])
def test_links_in_a_checkpoint_are_refused(folder, name, tmp_path):
    path = newest_checkpoint(folder) / name
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "precious" / "file")
    assert_refused(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_refused_and_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert_refused(folder, "study" if name == "study.json" else Path(name).name)


def test_a_lock_of_optunas_may_be_a_link(folder, tmp_path):
    """Optuna creates this link itself. It is only created and removed."""
    (folder / "optuna.log.lock").symlink_to(tmp_path / "precious" / "file")
    assert outcome(resume, folder) is None
    assert not (folder / "optuna.log.lock").is_symlink()
    assert_nothing_outside(folder)
    assert_sound(folder, CONFIG, {})


NAMES = ["a\nb", "\x1b[31mred", "\N{RIGHT-TO-LEFT OVERRIDE}x", "[red]", "-rf", "$(touch x)"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind(folder, name):
    """Odd names of files that do not matter, then of a link, which is refused in one line."""
    unfinished = newest_checkpoint(folder).parent
    for place in (folder, folder / "histories", folder / "ray", unfinished):
        (place / name).write_bytes(b"x")
    (folder / "histories" / f"{name}.npz").write_bytes(b"x")
    (unfinished / f"checkpoint_{name}").mkdir()
    assert outcome(read_status, folder) is None
    assert outcome(resume, folder) is None
    assert_sound(folder, CONFIG, {})
    (folder / "ray" / f"{name} link").symlink_to("x")
    assert outcome(resume, folder) is not None
    assert_nothing_outside(folder)


def test_a_name_that_is_no_text(folder):
    """Python can read this name, but pyarrow cannot list it."""
    name = os.fsdecode(b"\xff\xfe")
    (folder / name).write_bytes(b"x")
    (folder / "histories" / name).write_bytes(b"x")
    (newest_checkpoint(folder).parent / name).write_bytes(b"x")
    assert_refused(folder, newest_checkpoint(folder).parent.name)


# Content.


@pytest.mark.parametrize("trial_id", ["../../precious/file", "trial_00099", "a\nb", "/etc", ""])
def test_trials_that_the_journal_does_not_know(folder, trial_id):
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.loc[0, "trial_id"] = trial_id
    trials.to_parquet(folder / "trials.parquet")
    assert_refused(folder, "trials.parquet")


@pytest.mark.parametrize("name", ["trial_99999", "trial_99999999999999999999999"])
def test_a_history_of_no_trial(folder, name):
    shutil.copy(folder / "histories" / "trial_00000.npz", folder / "histories" / f"{name}.npz")
    assert_refused(folder, f"{name}.npz")


def changed(**changes):
    return lambda history: history.__dict__.update(changes)


def last_epoch(**changes):
    return lambda history: history.epochs[-1].update(changes)


HOSTILE = {
    "no epochs": changed(epochs=[], step_losses=[]),
    "no list of epochs": changed(epochs={"epoch": 1}),
    "an epoch too many": lambda h: h.epochs.append({**h.epochs[-1], "epoch": len(h.epochs) + 1}),
    "an epoch without its loss": lambda h: h.epochs[0].pop("eval_loss"),
    "a loss that is text": last_epoch(train_loss="0.1"),
    "a loss that is a list": last_epoch(eval_loss=[1]),
    "an epoch with a path": last_epoch(epoch="../1"),
    "an unknown column": last_epoch(trial_id="../../x"),
    "steps of another shape": changed(batch_sizes=[20]),
    "a step beyond all numbers": last_epoch(step=2**70),
    "steps below zero": last_epoch(examples_seen=-1),
    "a loss beyond all numbers": last_epoch(train_loss=10**400),
    "an accuracy above one": last_epoch(eval_accuracy=7.0),
    "a learning rate below zero": last_epoch(lr=-1.0),
    "a table's column": last_epoch(status="complete"),
    "sizes beyond all numbers": changed(batch_sizes=[2**70, 20, 10]),
    "sizes that are text": changed(batch_sizes=["20", "20", "10"]),
    "facts that are none": changed(facts=["x"]),
    "facts of another kind": changed(facts={"num_params": "many", "node": ["n"]}),
    "facts beyond all numbers": changed(facts={"num_params": 2**70}),
    "facts with half a character": changed(facts={"node": "\ud800"}),
    "facts that overwrite": changed(facts={"trial_id": "../../x", "status": "complete"}),
    "predictions of another shape": changed(log_p=np.zeros((3, 7), np.float16)),
    "predictions that are text": changed(log_p=np.array(["x"])),
    "another configuration": changed(config={"model": "x", "__class__": "y"}),
    "no configuration": changed(config=[1]),
    "an error with half a character": changed(error="\ud800"),
    "an error that is none": changed(error={"x": 1}),
    "another end": changed(status="../x"),
}


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("where", ["checkpoint", "histories"])
def test_a_history_that_says_what_it_should_not(folder, how, where):
    """It is skipped or refused in one line, and its content does not get into the tables."""
    file = folder / "histories" / "trial_00000.npz"
    if where == "checkpoint":
        file = newest_checkpoint(folder) / "history.npz"
    history = History.read(file.read_bytes())
    HOSTILE[how](history)
    with file.open("wb") as opened:
        history.write(opened)
    before = content_of(folder)
    outcome(read_status, folder)
    if outcome(resume, folder) is not None:
        assert content_of(folder) == before
        return
    assert_sound(folder, CONFIG, {})


def test_a_compressed_history_is_not_unpacked(folder):
    """A small compressed file might expand beyond the memory."""
    file = folder / "histories" / "trial_00000.npz"
    with np.load(file) as arrays:
        parts = dict(arrays)
    np.savez_compressed(file, **{**parts, "losses": np.zeros((3, 10**6), np.float32)})
    with pytest.raises(ValueError, match="compressed"):
        History.read(file.read_bytes())
    assert outcome(resume, folder) is None
    assert_sound(folder, CONFIG, {})


def test_a_history_larger_than_the_memory(folder):
    """Only the header claims that size; the file is small."""
    file = folder / "histories" / "trial_00000.npz"
    with np.load(file) as arrays:
        parts = dict(arrays)
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in parts.items():
            part = io.BytesIO()
            np.save(part, array)
            content = header.getvalue() if name == "losses" else part.getvalue()
            archive.writestr(f"{name}.npy", content)
    assert outcome(resume, folder) is None
    assert_sound(folder, CONFIG, {})
