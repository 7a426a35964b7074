"""`Storage`: one suite of tests for a folder and for an object store."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import boto3
import numpy as np
import pytest
import torch

from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.results.storage import Storage
from tests.helpers.simulated import history_of
from tests.test_results import history

TRIAL = "trial_00003"
CONFIG = TrialConfig()


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path):
    """A study whose trials write to its folder, and one whose trials write to an object store."""
    folder = tmp_path / "results" / "n"
    folder.mkdir(parents=True)
    if request.param == "folder":
        return Storage(folder)
    return Storage(folder, f"{request.getfixturevalue('bucket')}/{tmp_path.name}/n")


def put(storage, path, content):
    storage._filesystem.create_dir(path.rpartition("/")[0])
    with storage._filesystem.open_output_stream(path) as file:
        file.write(content)


def save_checkpoint(storage, index, trial_history, tmp_path):
    """Write a checkpoint as Ray does. Returns its path."""
    torch.save({"x": torch.zeros(1000)}, tmp_path / "state.pt")
    trial_history.save(tmp_path)
    folder = f"{storage._root}/ray/{TRIAL}/checkpoint_{index:06d}"
    for name in ("state.pt", "history.npz"):
        put(storage, f"{folder}/{name}", (tmp_path / name).read_bytes())
    return folder


@pytest.mark.parametrize("file", ["state.pt", "history.npz"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "empty"])
def test_a_torn_checkpoint_is_skipped(storage, tmp_path, file, how):
    first = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    last = save_checkpoint(storage, 1, history([0.9, 0.95]), tmp_path)
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True)[0] == last
    path = f"{last}/{file}"
    content = bytearray((tmp_path / file).read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 255
    cut = {"truncated": len(content) // 2, "flipped": len(content), "empty": 0, "missing": 0}[how]
    put(storage, path, bytes(content[:cut]))
    if how == "missing":
        storage._filesystem.delete_file(path)
    newest, found = storage.newest_checkpoint(TRIAL, CONFIG, resumable=True)
    assert newest == first
    assert len(found.epochs) == 1
    # The history of a trial that has ended does not need the network's weights.
    found = storage.newest_checkpoint(TRIAL, CONFIG, resumable=False)[1]
    assert len(found.epochs) == (2 if file == "state.pt" else 1)


def test_a_state_of_another_moment_is_skipped(storage, tmp_path):
    """The weights must be those after which the history was written."""
    state = b"weights"
    marked = replace(history([0.9]), state_sha256=hashlib.sha256(state).hexdigest())
    path = save_checkpoint(storage, 0, marked, tmp_path)
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True) is None
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=False)[0] == path
    put(storage, f"{path}/state.pt", state)
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True)[0] == path


@pytest.mark.parametrize("name", ["_dict_checkpoint.pkl", ".tune_metadata", "x/y"])
def test_a_checkpoint_with_anything_else_in_it_is_skipped(storage, tmp_path, name):
    """Ray would unpickle some of it."""
    path = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    put(storage, f"{path}/{name}", b"x")
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True) is None


def test_checkpoints_of_another_configuration_are_skipped(storage, tmp_path):
    first = save_checkpoint(storage, 0, history_of(CONFIG, 1, keep=False), tmp_path)
    other = history_of(replace(CONFIG, lr=0.5), 2, keep=False)
    last = save_checkpoint(storage, 1, other, tmp_path)
    for resumable in (True, False):
        assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=resumable)[0] == first
    assert len(storage.history_in(last).epochs) == 2


def test_no_checkpoint_no_history(storage):
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True) is None
    storage.keep_only(TRIAL, None)


def test_what_is_no_checkpoint_is_no_trials(storage, tmp_path):
    path = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    above = path.rpartition("/")[0]
    for name in ("checkpoint_000009", "checkpoint_x/y", "other/checkpoint_000007/x", "$(x)/y"):
        put(storage, f"{above}/{name}", b"x")
    put(storage, f"{above}0/x", b"x")
    put(storage, f"{above.rpartition('/')[0]}/experiment_state.json", b"x")
    assert storage.trial_ids() == [TRIAL, f"{TRIAL}0"]
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True)[0] == path
    storage.keep_only(TRIAL, None)
    assert storage._checkpoints(TRIAL) == []
    assert storage._read_path(f"{above}/other/checkpoint_000007/x") == b"x"


def test_an_ended_trial_keeps_its_final_model_alone(storage, tmp_path):
    _, last = [save_checkpoint(storage, i, history([0.9]), tmp_path) for i in (0, 1)]
    storage.keep_last(TRIAL)
    assert storage._checkpoints(TRIAL) == [last]


def measured(epochs=3, **more):
    return replace(history_of(CONFIG, epochs, keep=True), status="complete", **more)


def assert_same_history(found, expected):
    assert found.epochs == expected.epochs
    np.testing.assert_array_equal(found.step_losses, expected.step_losses)
    if expected.log_p is None:
        assert found.log_p is None
    else:
        np.testing.assert_array_equal(found.log_p, expected.log_p)
    for name in ("batch_sizes", "facts", "config", "status", "error"):
        assert getattr(found, name) == getattr(expected, name)


def test_what_an_ended_trial_measured_is_kept(storage):
    assert storage.kept(TRIAL) is None
    assert storage.kept_ids() == set()
    for expected in (measured(2), measured(15, error="a\nb \N{SNOWMAN}"), history([0.9])):
        storage.keep(TRIAL, expected)
        assert_same_history(storage.kept(TRIAL), expected)
        assert storage.kept_ids() == {TRIAL}
    assert [path.name for path in (storage.folder / "histories").iterdir()] == [f"{TRIAL}.npz"]


def test_a_history_is_replaced_whole_or_not_at_all(storage, monkeypatch):
    storage.keep(TRIAL, measured(1))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            storage.keep(TRIAL, measured(2))
    assert len(storage.kept(TRIAL).epochs) == 1
    assert [path.name for path in (storage.folder / "histories").iterdir()] == [f"{TRIAL}.npz"]


@pytest.mark.parametrize("how", ["emptied", "halved", "flipped", "folder", "pipe", "link"])
def test_a_damaged_history_is_none(storage, how):
    storage.keep(TRIAL, measured())
    path = storage.folder / "histories" / f"{TRIAL}.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    whole = {"emptied": b"", "halved": content[: len(content) // 2], "flipped": content}
    path.unlink()
    make = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(path),
    }
    make.get(how, lambda: path.write_bytes(whole[how]))()
    assert storage.kept(TRIAL) is None


def test_names_that_are_no_history_are_ignored(storage):
    storage.keep(TRIAL, measured())
    names = ["x", "trial_1.npz", f".part-{TRIAL}.npz", f"{TRIAL}.npz.bak", f"{TRIAL}.npz\n", "..x"]
    for name in names:
        (storage.folder / "histories" / name).write_bytes(b"x")
    assert storage.kept_ids() == {TRIAL}


def test_logs_are_moved_to_the_trials_folder(storage, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "result.json").write_bytes(b"{}\n")
    storage.take(TRIAL, logs)
    assert storage._read(f"ray/{TRIAL}/result.json") == b"{}\n"
    assert not logs.exists()
    assert storage.trial_folder(TRIAL).endswith(f"n/ray/{TRIAL}")


class Away:
    """A file system that cannot be reached. Nothing may be removed from it."""

    def __getattr__(self, name):
        assert not name.startswith("delete"), "removes what it cannot read"

        def fail(*arguments):
            raise OSError(5, "Input/output error\nfor a while")

        return fail


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.newest_checkpoint(TRIAL, CONFIG, resumable=True),
        lambda storage: storage.history_in("x/checkpoint_000000"),
        lambda storage: storage.trial_ids(),
        lambda storage: storage.keep_only(TRIAL, None),
        lambda storage: storage.keep_last(TRIAL),
        lambda storage: storage.has_study(),
        lambda storage: storage.marker().__enter__(),
    ],
)
def test_what_cannot_be_reached_is_not_what_is_lost(storage, tmp_path, call):
    path = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    there, storage._filesystem = storage._filesystem, Away()
    with pytest.raises(UserError, match="Input/output error") as error:
        call(storage)
    assert "\n" not in str(error.value)
    logs = tmp_path / "logs"
    logs.mkdir()
    storage.take(TRIAL, logs)
    assert logs.exists()
    storage._filesystem = there
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True)[0] == path


def test_a_checkpoint_that_cannot_be_removed(storage, tmp_path):
    path = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    there = storage._filesystem

    class ReadOnly:
        def __getattr__(self, name):
            return getattr(there, name)

        def delete_dir(self, path):
            raise OSError(30, "Read-only file system")

    storage._filesystem = ReadOnly()
    with pytest.raises(UserError, match="cannot be written"):
        storage.keep_only(TRIAL, None)
    assert storage._checkpoints(TRIAL) == [path]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_a_history_that_cannot_be_read_is_not_lost(storage, monkeypatch, error):
    storage.keep(TRIAL, measured())

    def fail(path):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("study.results.storage.open_plain", fail)
        with pytest.raises(UserError, match="cannot be read"):
            storage.kept(TRIAL)
    assert storage.kept(TRIAL) is not None


def test_a_local_studys_records_are_neither_copied_nor_brought(tmp_path):
    storage = Storage(tmp_path / "n")
    write(storage, "1\n")
    storage.push()
    storage.pull()
    assert storage.has_study()
    assert (storage.folder / "optuna.log").read_text() == "1\n"


def test_other_checkpoints_are_removed(storage, tmp_path):
    kept, *others = [save_checkpoint(storage, i, history([0.9]), tmp_path) for i in (1, 0, 2)]
    assert len(others) == 2
    storage.keep_only(TRIAL, kept)
    assert storage._checkpoints(TRIAL) == [kept]


def test_ray_reads_a_checkpoint(storage, tmp_path):
    path = save_checkpoint(storage, 0, history([0.9]), tmp_path)
    with storage.ray_checkpoint(path).as_directory() as folder:
        assert torch.load(f"{folder}/state.pt", weights_only=True)["x"].shape == (1000,)


def test_a_marker_is_seen_and_goes_away(storage):
    with storage.marker() as where:
        seen = Storage(storage.folder, where if storage.uri else None)
        path = seen._root if storage.uri else where
        assert seen._filesystem.open_input_stream(path).read() == b"seen\n"
    assert not seen._filesystem.get_file_info(path).is_file


def write(storage, journal, study="{}"):
    storage.folder.mkdir(parents=True, exist_ok=True)
    (storage.folder / "optuna.log").write_text(journal)
    (storage.folder / "study.json").write_text(study)


@pytest.fixture
def remote(tmp_path, bucket):
    """Makes the files of one stored study on several machines."""
    return lambda machine: Storage(tmp_path / machine / "n", f"{bucket}/{tmp_path.name}/n")


def test_records_outlive_the_machine(remote):
    first, second = remote("first"), remote("second")
    assert not first.has_study()
    write(first, "1\n2\n", "of the first")
    first.push()
    assert second.has_study()
    second.folder.mkdir(parents=True)
    second.pull()
    assert (second.folder / "optuna.log").read_text() == "1\n2\n"
    assert (second.folder / "study.json").read_text() == "of the first"
    # The study continues there, and then on the first machine again.
    write(second, "1\n2\n3\n", "of the second")
    second.push()
    first.pull()
    assert (first.folder / "optuna.log").read_text() == "1\n2\n3\n"
    assert (first.folder / "study.json").read_text() == "of the second"


def test_what_ended_trials_measured_outlives_the_machine(remote):
    first, second = remote("first"), remote("second")
    write(first, "1\n")
    first.keep(TRIAL, measured())
    first.push()
    second.pull()
    assert_same_history(second.kept(TRIAL), measured())
    # A file that is lost only here is copied again, although the journal is up to date.
    path = first.folder / "histories" / f"{TRIAL}.npz"
    path.unlink()
    first.pull()
    assert_same_history(first.kept(TRIAL), measured())
    # Files here are not replaced,
    path.write_bytes(b"ours")
    first.pull()
    assert path.read_bytes() == b"ours"
    # except those that a later session there has measured.
    write(second, "1\n2\n")
    second.keep(TRIAL, measured(4))
    second.push()
    first.pull()
    assert_same_history(first.kept(TRIAL), measured(4))


def test_hostile_names_in_the_store_are_ignored(remote, tmp_path):
    here, there = remote("here"), remote("there")
    write(there, "1\n")
    there.keep(TRIAL, measured())
    there.push()
    bucket, _, prefix = there._root.partition("/")
    names = [
        "histories/../../../out.npz",
        "histories/trial_1.npz",
        "histories//trial_00009.npz",
        "histories/x/trial_00008.npz",
        "histories/trial_00007.npz/x",
        "histories/.part-x",
        "../out.json",
        "ray/../../x",
        "unknown",
    ]
    for name in names:
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"x")
    here.pull()
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    brought = {"optuna.log", "study.json", f"histories/{TRIAL}.npz"}
    assert {name for name in files if name.startswith("here/")} == {f"here/n/{b}" for b in brought}
    assert {name.split("/")[0] for name in files} == {"here", "there"}
    assert here.trial_ids() == []


def test_newer_records_here_are_kept(remote):
    here = remote("here")
    write(here, "1\n")
    here.push()
    write(here, "1\n2\n", "newer")
    here.pull()
    assert (here.folder / "optuna.log").read_text() == "1\n2\n"
    assert (here.folder / "study.json").read_text() == "newer"


def test_a_half_line_here_is_not_another_course(remote):
    here, there = remote("here"), remote("there")
    write(there, "1\n2\n3\n")
    there.push()
    write(here, "1\n2")
    here.pull()
    assert (here.folder / "optuna.log").read_text() == "1\n2\n3\n"


def test_two_courses_of_a_study_are_not_mixed(remote):
    here, there = remote("here"), remote("there")
    write(there, "1\n2\n")
    there.push()
    write(here, "1\n3\n")
    with pytest.raises(UserError, match="has diverged from"):
        here.pull()
    assert (here.folder / "optuna.log").read_text() == "1\n3\n"


def test_only_what_changed_is_copied(remote, monkeypatch):
    here = remote("here")
    write(here, "1\n")
    here.push()
    before = here._filesystem.get_file_info(f"{here._root}/study.json").mtime_ns
    write_journal = here.folder / "optuna.log"
    write_journal.write_text("1\n2\n")
    here.push()
    assert here._filesystem.get_file_info(f"{here._root}/study.json").mtime_ns == before
    assert here._read("optuna.log") == b"1\n2\n"


@pytest.mark.parametrize("uri", ["s3://no-such-bucket/x", "ftp://somewhere/x"])
def test_what_cannot_be_used_is_refused(uri, bucket, tmp_path):
    with pytest.raises(UserError, match=f"--storage-path: '{uri}' cannot be used") as error:
        Storage(tmp_path, uri)
    assert "\n" not in str(error.value)
