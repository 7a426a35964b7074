"""Power cuts in real studies: all processes die at once, and unsynced data is lost."""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import shutil
import signal
import threading
import time

import psutil
import pytest

from study.results.tables import load_study
from study.training.epoch import TIMES
from tests.helpers import studies
from tests.helpers.forgetful import mounted
from tests.helpers.studies import (
    assert_each_trial_once,
    assert_same_measurements,
    count_epochs,
    run,
    start,
)

pytestmark = [pytest.mark.slow, pytest.mark.root]  # and FUSE
FIXED = [*studies.FIXED, "--epochs", "3"]
TRIALS = 6
NEW = [*FIXED, "--num-samples", str(TRIALS), "--name", "n"]
RUNNING = ["--max-concurrent", "2"]  # so that the moments are the same on every machine


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, mnist):
    """The tables of the undisturbed study."""
    here = tmp_path_factory.mktemp("undisturbed")
    run(here, *NEW, *RUNNING)
    return load_study(here / "results" / "n")


@pytest.fixture
def disk(tmp_path):
    """A forgetful disk mounted at the folder `results`."""
    (tmp_path / "results").mkdir()
    with mounted(tmp_path / "results") as disk:
        yield disk


class Sessions:
    """A study through all its sessions. It remembers everything that was reported.

    Args:
        disk: The disk that holds it.
        undisturbed: The tables of the same study without power cuts.
        seed: Seed of what a gentler disk keeps; None: the strictest disk.
    """

    def __init__(self, disk, undisturbed, seed=None):
        self.disk = disk
        self.seeds = itertools.repeat(None) if seed is None else itertools.count(1000 * seed)
        self.here = disk.path.parent
        self.folder = disk.path / "n"
        self.undisturbed = undisturbed
        self.told = []  # trials reported as complete, in this order
        self.seconds = {}  # epochs of these trials that tables held

    def go_on(self):
        """Start a session of the study if there is one, or else of a new study in its place."""
        exists = (self.folder / "study.json").exists()
        assert exists or not self.told, "a study with complete trials is gone"
        if not exists:
            shutil.rmtree(self.folder, ignore_errors=True)
        how = ["--resume", "results/n"] if exists else NEW
        self.process = start(self.here, *how, *RUNNING)
        self._printed = queue.Queue()
        self._output = []
        threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True).start()

    def _listen(self, stdout):
        for line in stdout:
            self._printed.put(line)
        self._printed.put(None)  # the last one

    def line(self, pattern=None):
        """Return the next line that matches. Without a pattern, read all lines to the end."""
        while (line := self._printed.get(timeout=300)) is not None:
            self._output.append(line)
            if told := re.match(r"\d+/\d+ (trial_\d+) complete", line):
                self.told.append(told[1])
            if pattern and re.search(pattern, line):
                return
        self._printed.put(None)  # for whoever asks again
        assert not pattern, "".join(self._output)

    def until(self, condition):
        """Wait until the folder shows that a condition holds."""
        end = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, self._rest()
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.005)

    def _rest(self):
        self.line()
        self.process.wait()
        return "".join(self._output)

    def cut(self):
        """A power cut, in a session or after it."""
        if self.process.poll() is None:
            kill(self.process)
        self._rest()
        self.disk.cut(next(self.seeds))

    def end(self):
        """Let the session end by itself. Its tables then hold everything that was reported."""
        out = self._rest()
        assert self.process.returncode == 0, out
        assert "Traceback" not in out
        self.check()

    def stop(self):
        """End the session early, but cleanly."""
        self.process.send_signal(signal.SIGTERM)
        self.end()

    def check(self):
        """Trials reported as complete are so, have all their values, and were not run again."""
        assert len(set(self.told)) == len(self.told), self.told
        results = load_study(self.folder)
        complete = results.trials.query("status == 'complete'")["trial_id"]
        assert set(self.told) <= set(complete), results.trials
        expected = [only(table, self.told) for table in tables(self.undisturbed)]
        found = [only(table, self.told) for table in tables(results)]
        for a, b in zip(found, expected, strict=True):
            assert a.equals(b), (a, b)
        for row in only(results.epochs, self.told).itertuples():
            key = (row.trial_id, row.epoch)
            assert self.seconds.setdefault(key, row.epoch_seconds) == row.epoch_seconds, key

    def assert_as_if_nothing_happened(self):
        results = assert_each_trial_once(self.folder, TRIALS, {"complete"})
        assert_same_measurements(results, self.undisturbed)

    def tables_written(self):
        """The time when the first of the tables was last written."""
        path = self.folder / "trials.parquet"
        return path.stat().st_mtime_ns if path.exists() else 0


def tables(results):
    """The values that are the same in every course of a study."""
    trials = results.trials[["trial_id", "status", "epochs_run", "last_eval_accuracy"]]
    return trials, results.epochs.drop(columns=list(TIMES)), results.steps


def only(table, trial_ids):
    return table[table["trial_id"].isin(trial_ids)].reset_index(drop=True)


def kill(process):
    """Kill a study's driver and all its child processes at once."""
    driver = psutil.Process(process.pid)
    victims = {driver}
    while True:  # stopped first, so that none starts another meanwhile
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.suspend()
        if (found := {driver, *driver.children(recursive=True)}) <= victims:
            break
        victims |= found
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()
    _, alive = psutil.wait_procs(victims, timeout=30)
    assert not alive


@pytest.mark.parametrize("seed", [None, 1])
def test_power_cuts_lose_nothing_that_was_reported(disk, undisturbed, seed):
    """Six cuts in a row at different moments, on the strictest disk and on gentler ones."""
    study = Sessions(disk, undisturbed, seed)
    folder = study.folder
    study.go_on()
    study.until((folder / "study.json").exists)
    study.cut()
    study.go_on()
    study.until(lambda: count_epochs(folder) >= 1)
    study.cut()
    study.go_on()
    study.line("trial_.* complete")
    study.cut()
    study.go_on()
    study.line("results/n: ")  # it starts to continue its earlier trials
    study.cut()
    study.go_on()
    epochs = count_epochs(folder)
    study.until(lambda: count_epochs(folder) > epochs)
    study.stop()
    before = study.tables_written()
    study.go_on()
    study.until(lambda: study.tables_written() > before)
    study.cut()
    study.go_on()
    study.end()
    study.cut()
    study.check()
    study.go_on()
    study.end()
    study.assert_as_if_nothing_happened()
