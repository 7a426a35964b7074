from __future__ import annotations

import pytest
import torch

from study.config import TrialConfig, UserError
from study.storage import Storage
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
    """A checkpoint as Ray puts it there; returns its path."""
    torch.save({"x": torch.zeros(1000)}, tmp_path / "state.pt")
    trial_history.save(tmp_path)
    folder = f"{storage._root}/ray/{TRIAL}/checkpoint_{index:06d}"
    for name in ("state.pt", "history.npz"):
        put(storage, f"{folder}/{name}", (tmp_path / name).read_bytes())
    return folder


@pytest.mark.parametrize("file", ["state.pt", "history.npz"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "empty"])
def test_a_torn_checkpoint_is_passed_over(storage, tmp_path, file, how):
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


def test_no_checkpoint_no_history(storage):
    assert storage.newest_checkpoint(TRIAL, CONFIG, resumable=True) is None
    storage.keep_only(TRIAL, None)


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
    # It goes on there, and then on the first again.
    write(second, "1\n2\n3\n", "of the second")
    second.push()
    first.pull()
    assert (first.folder / "optuna.log").read_text() == "1\n2\n3\n"
    assert (first.folder / "study.json").read_text() == "of the second"


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
    with pytest.raises(UserError, match="has gone another way"):
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
