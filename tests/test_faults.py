"""Kills, full disks and damaged files in real studies on this machine."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time

import psutil
import pytest

from study.console.errors import UserError
from study.results.tables import load_study
from tests.helpers import THOROUGH, studies
from tests.helpers.studies import (
    assert_each_trial_once,
    assert_same_measurements,
    count_epochs,
    finish,
    run,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow
FIXED = [*studies.FIXED, "--epochs", "4"]
TRIALS, KILLS = (18, 20) if THOROUGH else (9, 7)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, mnist):
    """The tables of the undisturbed study."""
    here = tmp_path_factory.mktemp("uninterrupted")
    run(here, *FIXED, "--num-samples", str(TRIALS), "--name", "n")
    return load_study(here / "results" / "n")


def assert_as_if_nothing_happened(here, uninterrupted):
    results = assert_each_trial_once(here / "results" / "n", TRIALS, {"complete"})
    assert_same_measurements(results, uninterrupted)
    return results


def workers_of(process):
    """The processes in which a study's trials run."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.name().startswith("ray::Resource")]


def test_a_driver_killed_many_times(tmp_path, uninterrupted):
    """Kill the driver at random moments, and resume each time."""
    moments = random.Random(1)
    folder = tmp_path / "results" / "n"
    process = start(tmp_path, *FIXED, "--num-samples", str(TRIALS), "--name", "n")
    wait_until((folder / "study.json").exists, process)
    for _ in range(KILLS):
        end = time.monotonic() + moments.uniform(1, 15)
        enough = count_epochs(folder) + 3  # or the study would end before the last kill
        while time.monotonic() < end and count_epochs(folder) < enough:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0]
        process.kill()
        process.communicate()
        process = start(tmp_path, "--resume", "results/n")
    finish(process)
    assert_as_if_nothing_happened(tmp_path, uninterrupted)


def test_killed_workers(tmp_path, uninterrupted):
    """Trials of killed workers continue in new processes, in the same session."""
    folder = tmp_path / "results" / "n"
    process = start(tmp_path, *FIXED, "--num-samples", str(TRIALS), "--name", "n")
    for epochs in (3, 12):
        wait_until(lambda epochs=epochs: count_epochs(folder) >= epochs, process)
        for worker in workers_of(process):
            worker.kill()
    finish(process)
    results = assert_as_if_nothing_happened(tmp_path, uninterrupted)
    assert len(results.study.sessions) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 MB at the folder `results`."""
    place = tmp_path / "results"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk):
    """Fill `disk`. Returns the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


@pytest.mark.root
def test_a_full_disk_stops_the_study_and_room_lets_it_go_on(tmp_path, small_disk, uninterrupted):
    folder = small_disk / "n"
    process = start(tmp_path, *FIXED, "--num-samples", str(TRIALS), "--name", "n")
    wait_until(lambda: count_epochs(folder) >= 8, process)
    filler = fill(small_disk)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2, out
    assert "Traceback" not in out
    assert "No space left on device" in out.splitlines()[-1]
    assert "then continue with: python -m study.run --resume results/n" in out.splitlines()[-1]
    out = run(tmp_path, "--resume", "results/n", status=2)
    assert "free some space there" in out
    filler.unlink()
    run(tmp_path, "--resume", "results/n")
    assert_as_if_nothing_happened(tmp_path, uninterrupted)


def test_damaged_files_are_reported_or_skipped(tmp_path, uninterrupted):
    """The checkpoint before a damaged one is used. A damaged table is written again."""
    folder = tmp_path / "results" / "n"
    process = start(tmp_path, *FIXED, "--num-samples", str(TRIALS), "--name", "n")
    wait_until(lambda: count_epochs(folder) >= 6, process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    interrupted = load_study(folder).trials.query("status == 'interrupted' and epochs_run > 0")
    assert len(interrupted)
    for trial_id in interrupted["trial_id"]:
        newest = max((folder / "ray" / trial_id).glob("checkpoint_*"))
        for name in ("state.pt", "history.npz"):
            content = (newest / name).read_bytes()
            (newest / name).write_bytes(content[: len(content) // 2])
    (folder / "trials.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="not a readable table"):
        load_study(folder)
    run(tmp_path, "--resume", "results/n")
    assert_as_if_nothing_happened(tmp_path, uninterrupted)


@pytest.mark.parametrize("content", [b"not json\n", b'{"op_code": 99}\n'])
def test_a_damaged_journal_is_reported(tmp_path, mnist, content):
    run(tmp_path, *FIXED, "--num-samples", "1", "--epochs", "1", "--name", "n")
    path = tmp_path / "results" / "n" / "optuna.log"
    path.write_bytes(content + path.read_bytes())
    out = run(tmp_path, "--resume", "results/n", status=2)
    assert out.startswith("error: results/n/optuna.log: damaged")
    assert path.read_bytes().startswith(content)
