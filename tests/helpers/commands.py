"""Whole commands without Ray: its part is played by `tests.helpers.simulated`."""

from __future__ import annotations

import shlex
from pathlib import Path

from study.cluster.joining import Slots
from tests.helpers.simulated import Trials, images, leave_out_ray, never_run


class Tuner:
    """In place of Ray's: trains nothing, in this process."""

    before_each_epoch = staticmethod(lambda: None)

    def __init__(self, trainable, tune_config, run_config):
        self.search = tune_config.search_alg
        self.run_config = run_config

    def fit(self):
        [callback] = self.run_config.callbacks
        storage = callback.storage
        self.search.add_configurations(never_run(storage.folder))
        trials = Trials(
            self.search,
            storage,
            keep=callback.tables._config.keeps_predictions,
            callbacks=[callback],
        )
        while not trials.finished:
            while trials.start():
                pass
            self.before_each_epoch()
            if self.run_config.stop.stop_all():
                return
            if trials.running:
                trials.epoch(0)


def play_ray(monkeypatch, tmp_path):
    """Ray, data and the other nodes are left out; the rest is real."""
    leave_out_ray(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("ray.tune.Tuner", Tuner)
    monkeypatch.setattr("ray.tune.with_parameters", lambda trainable, **_: trainable)
    monkeypatch.setattr("ray.tune.with_resources", lambda trainable, _: trainable)
    monkeypatch.setattr("ray.tune.experiment.Trial.local_path", tmp_path / "no logs")
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("study.cluster.joining.connect", lambda address: None)
    monkeypatch.setattr("study.cluster.joining.plan_slots", lambda *_, **__: Slots(1, 0, 2, 1))
    monkeypatch.setattr("study.search.node_checks.check", lambda *_, **__: [])
    monkeypatch.setattr("study.data.sources.fetch", lambda *_: Path())
    monkeypatch.setattr("study.data.images.fetch", lambda *_: Path())
    monkeypatch.setattr(
        "study.data.images._read_idx",
        lambda path: images().images if "images" in path.name else images().labels,
    )
    monkeypatch.setattr("study.data.images.load_splits", lambda *_: (images(), images()))


def before_epoch(monkeypatch, number, action):
    """Have `action` called before the session's epoch `number`."""
    seen = []

    def count():
        seen.append(1)
        if len(seen) == number:
            action()

    monkeypatch.setattr(Tuner, "before_each_epoch", staticmethod(count))


def the_command_after(words, out):
    """The arguments of the command that is printed below `words`."""
    [at] = [i for i, line in enumerate(out.splitlines()) if line.startswith(words)]
    python, _m, module, *arguments = shlex.split(out.splitlines()[at + 1])
    assert python == "python"
    return module, arguments
