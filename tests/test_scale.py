"""The benchmark of large studies: its parts, and a small study from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest

from benchmarks import scale, scale_driver
from benchmarks.scale_driver import Measured, Options, Stopwatch
from benchmarks.synthetic import SyntheticTrainable
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.config.trial import TrialConfig
from study.results.storage import RAY_FOLDER, Storage
from study.results.tables import EPOCH_COLUMNS
from study.training.epoch import EpochRecord


def trial(**values):
    trainable = object.__new__(SyntheticTrainable)  # without Ray's part
    trainable.setup(vars(TrialConfig(epochs=3, **values)))
    return trainable


def test_exponents():
    assert scale.exponents([100, 1000], [2.0, 20.0]) == [None, pytest.approx(1)]
    assert scale.exponents([10, 20, 40], [1.0, 4.0, 16.0])[1:] == pytest.approx([2, 2])


def test_a_part_is_charged_without_the_parts_within_it(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(
        scale_driver,
        "time",
        SimpleNamespace(thread_time=lambda: clock.now, perf_counter=lambda: 10 * clock.now),
    )

    class Work:
        def outer(self):
            clock.now += 1
            self.inner()
            self.inner()
            return "done"

        def inner(self):
            clock.now += 2

    watch = Stopwatch()
    watch.wrap(Work, "outer", "a")
    watch.wrap(Work, "inner", "b")
    assert Work().outer() == "done"
    assert watch.parts["a"].summary() == {
        "calls": 1,
        "cpu_s": 1,
        "wall_s": 10,
        "last_cpu_s": 1,
        "last_wall_s": 10,
    }
    assert watch.parts["b"].cpu_s == [2, 2]


def test_the_last_calls_are_the_last_tenth():
    costs = [1.0] * 18 + [3.0, 5.0]
    assert scale_driver.Part(costs, costs).summary()["last_cpu_s"] == 4


def test_parts_and_the_rest_add_up():
    part = {"calls": 1, "cpu_s": 0.5, "wall_s": 1.0, "last_cpu_s": 0.5, "last_wall_s": 1.0}
    measured = Measured(0, 2.0, 3.0, 1, 1, 4, 4, {}, {"ask": part, "tables": part})
    assert scale.cpu_by_part(measured) == {"ask": 0.5, "tables": 0.5, scale.OTHER: 1.0}
    assert scale.share("tables", measured) == "125.00 (25%)"
    assert scale.share("view", measured) == "0.00 (0%)"


def test_a_synthetic_trial_reports_and_saves_what_a_real_one_does(tmp_path):
    trainable = trial(batch_size=96, seed=5)
    results = [trainable.step() for _ in range(3)]
    assert [result["done"] for result in results] == [False, False, True]
    names = {field.name for field in fields(EpochRecord)}
    assert set(results[0]) == names | {"training_iteration", "diverged", "done"}
    folder = tmp_path / RAY_FOLDER / "trial_00000" / "checkpoint_000002"
    folder.mkdir(parents=True)
    trainable.save_checkpoint(str(folder))
    _, history = Storage(tmp_path).newest_checkpoint("trial_00000", TrialConfig(), resumable=True)
    assert set(history.epochs[0]) == set(EPOCH_COLUMNS) - {"trial_id"}
    assert sum(history.batch_sizes) == NUM_TRAIN_EXAMPLES
    assert [len(losses) for losses in history.step_losses] == 3 * [len(history.batch_sizes)]
    again = trial(batch_size=96, seed=5)
    assert again.step()["eval_accuracy"] == results[0]["eval_accuracy"]
    again.load_checkpoint(str(folder))
    assert again.epochs == history.epochs


def test_worker_processes_do_without_torch():
    code = "import sys, benchmarks.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("arguments", [["--slots", "0"], ["--trials", "10", "-1"]])
def test_bad_sizes_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        scale.parse(arguments)
    assert refused.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_study_is_measured_and_opened_again(tmp_path, capfd):
    out = tmp_path / "scale.json"
    scale.main(["--slots", "2", "--trials", "6", "12", "--epochs", "3", "--json", str(out)])
    assert "CPU time by part" in capfd.readouterr().out
    results = json.loads(out.read_text())["results"]
    assert [result["study"]["ended"] for result in results] == [6, 12]
    for result in results:
        study, resumed = result["study"], result["resumed"]
        assert study["epochs"] >= study["ended"] == resumed["ended"]
        assert resumed["epochs"] == 0  # nothing was run again
        assert min(study["bytes"].values()) > 0
        assert set(study["parts"]) == set(scale_driver.PARTS)
        assert sum(part["cpu_s"] for part in study["parts"].values()) < study["cpu_s"]


@pytest.mark.slow
def test_rays_snapshots_are_few(tmp_path):
    measured = scale.run(Options(str(tmp_path), 2, 6, 6, "random", "none"))
    assert measured.ended == 6
    # Snapshots at the start, at the end and every few minutes; not after every other checkpoint.
    assert measured.parts["snapshot"]["calls"] <= 4
