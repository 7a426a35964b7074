"""Studies without Ray and without training, but with the real searcher, records and storage.

A session runs in this process, and an epoch takes a millisecond. A trial's measurements and end
follow from its configuration alone. So tests can try thousands of schedules of stops, kills,
power cuts and damage.
"""

from __future__ import annotations

import functools
import os
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.experiment import Experiment

from study.config.comparison import ComparisonConfig
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.config.trial import TrialConfig
from study.data.images import ImageData
from study.results.history import HISTORY_FILE, STATE_FILE, History
from study.results.journal import num_planned, trial_status
from study.results.lock import locked
from study.results.recovery import Recovered, recover, repair
from study.results.storage import Storage
from study.results.study_file import SessionRecord, StudyFile
from study.results.table_writer import TableWriter
from study.results.tables import in_seconds, load_study
from study.results.versions import installed_versions
from study.search.searcher import StudySearch, open_optuna_study, retry_failed
from study.search.stop_request import StopRequest
from study.training.epoch import TIMES

IMAGES = 8  # evaluated images in a comparison
STEPS = [20, 20, 10]  # examples in each step of an epoch
ENDS = ("complete", "complete", "complete", "pruned", "diverged", "failed")


def search_config(num_samples=5, **more):
    fixed = {"epochs": 3, "sampler": "random", "scheduler": "none", **more}
    return SearchConfig("n", space_to_json(DEFAULT_SPACE), num_samples=num_samples, **fixed)


def comparison_config(replicates=2, **more):
    arms = {"64": {"batch_size": 64}, "512": {"batch_size": 512}}
    return ComparisonConfig("n", "64 or 512?", arms, replicates=replicates, epochs=3, **more)


@functools.cache
def images() -> ImageData:
    return ImageData(np.zeros((IMAGES, 28, 28), np.uint8), np.arange(IMAGES, dtype=np.uint8))


def end_of(config: TrialConfig) -> tuple[str, int]:
    """How a trial ends, and after which epoch. It is the same every time it is trained."""
    status = ENDS[config.seed % len(ENDS)]
    return status, {"complete": config.epochs, "pruned": 1}.get(status, 2)


def history_of(config: TrialConfig, epochs: int, *, keep: bool) -> History:
    """A trial's history after `epochs` epochs. It is the same every time it is trained."""
    status, last = end_of(config)
    rng = np.random.default_rng(config.seed)
    losses = [rng.random(len(STEPS)).astype(np.float32) for _ in range(config.epochs)][:epochs]
    accuracies = rng.random(config.epochs)
    records = [
        {
            "epoch": e,
            "step": 3 * e,
            "examples_seen": 50 * e,
            "epoch_lr": config.lr * 0.5**e,
            "train_loss": float(losses[e - 1].mean()),
            "eval_loss": 1 / e,
            "eval_accuracy": float(accuracies[e - 1]),
            "epoch_seconds": float(e),
            "eval_seconds": 0.5,
            "epoch_ended": config.seed + 10.0 * e,
        }
        for e in range(1, epochs + 1)
    ]
    if status == "diverged" and epochs == last:
        records[-1]["eval_loss"] = float("nan")
    whole = keep and epochs == config.epochs
    scores = rng.normal(size=(IMAGES, 10))
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    facts = {
        "num_params": 7,
        "precision": "fp32",
        "train_examples": 50,
        "dropout": True,
        "batch_norm": False,
        "node": "n",
        "device": "d",
    }
    kept = log_p.astype(np.float16) if whole else None
    return History(records, losses, STEPS, facts, kept, asdict(config))


@dataclass
class Running:
    trial: Any
    config: TrialConfig
    epochs: int


class Trials:
    """Takes Ray's place: starts a study's trials and trains their epochs, all in this process.

    Args:
        search: Provides the trials.
        storage: The study's files.
        keep: Whether complete trials keep their predictions.
        callbacks: Called as by Ray.
    """

    def __init__(self, search: StudySearch, storage: Storage, *, keep: bool, callbacks=()) -> None:
        self.search = search
        self.storage = storage
        self.keep = keep
        self.callbacks = callbacks
        self.running: dict[str, Running] = {}

    @property
    def finished(self) -> bool:
        return not self.running and self.search.is_finished()

    def start(self) -> bool:
        """Start or continue one more trial, if there is one and a free slot."""
        if len(self.running) >= 2 or (trial := self.search.next_trial()) is None:
            return False
        config = TrialConfig(**trial.config)
        result = trial._restore_checkpoint_result
        epochs = 0
        if result is not None:
            epochs = len(self.storage.history_in(result.checkpoint.path).epochs)
        self.running[trial.trial_id] = Running(trial, config, epochs)
        for callback in self.callbacks:
            callback.on_trial_start(0, [], trial)
        return True

    def epoch(self, which: int) -> None:
        """Train one epoch of a running trial, and end the trial if this is its last."""
        run = list(self.running.values())[which % len(self.running)]
        status, last = end_of(run.config)
        is_retry = "retry_of" in self.search._live[run.trial.trial_id][0].user_attrs
        if status == "failed" and run.epochs == last - 1 and not is_retry:
            self._end(run, error=True)
            return
        run.epochs += 1
        history = history_of(run.config, run.epochs, keep=self.keep)
        self._save_checkpoint(run.trial.trial_id, run.epochs - 1, history)
        diverged = status == "diverged" and run.epochs == last
        result = {**history.epochs[-1], "diverged": diverged}
        for callback in self.callbacks:
            callback.on_trial_result(0, [], run.trial, result)
        if run.epochs == run.config.epochs or diverged or (status, run.epochs) == ("pruned", 1):
            self._end(run, result)
        else:
            self.search.on_trial_result(run.trial.trial_id, result)

    def ended(self, trial_id: str) -> None:
        """Called for each ended trial after the search has recorded it."""

    def _end(self, run: Running, result: dict[str, Any] | None = None, *, error=False) -> None:
        del self.running[run.trial.trial_id]
        self.search.on_trial_complete(run.trial.trial_id, result, error=error)
        self.ended(run.trial.trial_id)
        for callback in self.callbacks:
            callback.on_trial_complete(0, [], run.trial)

    def _save_checkpoint(self, trial_id: str, index: int, history: History) -> None:
        """Save a checkpoint as Ray does: without regard to power cuts, keeping the last two."""
        place = self.storage.folder / "ray" / trial_id
        folder = place / f"checkpoint_{index:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / STATE_FILE, "w") as archive:
            archive.writestr("data", b"weights" * 10)
        with (folder / HISTORY_FILE).open("wb") as file:
            history.write(file)
        for old in sorted(place.glob("checkpoint_*"))[:-2]:
            shutil.rmtree(old)


class Session(Trials):
    """One session of a study's driver, from its start to its end or its kill.

    `acknowledged` holds what was reported to the user, by trial id: the status of each ended
    trial and its measurements.
    """

    def __init__(self, folder: Path, config, *, resume: bool, retry: bool = False) -> None:
        self.config = config
        self.acknowledged: dict[str, History] = {}
        self._lock = locked(folder, resume=resume)
        self._lock.__enter__()
        try:
            self._open(Storage(folder), resume, retry)
        except BaseException:
            self.close()
            raise

    def _open(self, storage: Storage, resume: bool, retry: bool) -> None:
        folder, config = storage.folder, self.config
        self.recovered = recover(storage, config) if resume else Recovered()
        repair(storage, self.recovered)
        earlier = StudyFile.read(folder).sessions if resume else ()
        session = SessionRecord.of_this_process(
            None, nodes=1, concurrent_trials=2, gpus_per_trial=0
        )
        StudyFile.of(config, None, (*earlier, session)).write(folder)
        self.study = open_optuna_study(folder, config)
        if retry:
            retry_failed(self.study)
        self.stop = StopRequest()
        search = StudySearch(self.study, config, 2, storage, self.recovered, self.stop)
        search.add_configurations([never_run(folder)])
        self.tables = TableWriter(storage, config, self.study, images(), self.recovered)
        super().__init__(search, storage, keep=config.keeps_predictions)

    def close(self) -> None:
        """Release the study's lock, as the end of a process does."""
        self._lock.__exit__(None, None, None)

    def ended(self, trial_id: str) -> None:
        status, _ = self.tables.status_of(trial_id)
        if status != "interrupted":
            self.acknowledged[trial_id] = self.recovered.ended[trial_id]

    def run(self) -> None:
        """Run to the end and write the tables."""
        while not self.finished:
            while self.start():
                pass
            if self.running:
                self.epoch(0)
        self.tables.write()
        self.close()


def never_run(folder: Path) -> Experiment:
    """The experiment that Ray passes to the search before it asks for trials."""

    def trainable(config):
        raise AssertionError

    checkpoints = tune.CheckpointConfig()
    return Experiment(
        "ray", trainable, storage_path=str(folder.absolute()), checkpoint_config=checkpoints
    )


def leave_out_ray(monkeypatch) -> None:
    """Replace everything that a session needs from Ray's processes and from this machine."""
    monkeypatch.setattr("study.results.study_file.git_state", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the machine itself does not die
    versions = installed_versions()
    monkeypatch.setattr("study.results.study_file.installed_versions", lambda: versions)


def run_study(folder: Path, config, *, resume: bool = False, retry: bool = False):
    """Run a whole session. Returns the tables."""
    Session(folder, config, resume=resume, retry=retry).run()
    return load_study(folder)


def assert_sound(folder: Path, config, acknowledged: dict[str, History]) -> None:
    """A finished study holds each trial once and intact, and everything that was ever reported."""
    results = load_study(folder)
    ids = results.trials["trial_id"].tolist()
    study = open_optuna_study(folder, config)
    trials = study.get_trials(deepcopy=False)
    assert len(ids) == len(set(ids)) == num_planned(config, trials)
    assert [trial_status(t) for t in trials] == results.trials["status"].tolist()
    epochs = dict(iter(results.epochs.groupby("trial_id")))
    steps = dict(iter(results.steps.groupby("trial_id")))
    for row in results.trials.to_dict("records"):
        trial_id = row["trial_id"]
        made_with = config.trial_config(
            {name: row[name] for name in results.trials if name in trials[0].params}, 0
        )
        expected = history_of(
            TrialConfig(**{**asdict(made_with), "seed": row["seed"]}),
            row["epochs_run"],
            keep=config.keeps_predictions,
        )
        if trial_id in acknowledged:
            assert row["status"] == acknowledged[trial_id].status
            assert row["epochs_run"] == len(acknowledged[trial_id].epochs)
        if not row["epochs_run"]:
            assert row["status"] == "failed"
            continue
        own = epochs[trial_id].assign(epoch_ended=in_seconds(epochs[trial_id]["epoch_ended"]))
        for name in ("epoch", "step", "train_loss", "eval_loss", "eval_accuracy", *TIMES):
            np.testing.assert_array_equal(own[name], [e[name] for e in expected.epochs], name)
        np.testing.assert_array_equal(
            steps[trial_id]["loss"], np.concatenate(expected.step_losses).astype(float)
        )


optuna.logging.set_verbosity(optuna.logging.ERROR)


def assert_nothing_lost(before, after, acknowledged) -> None:
    """Every value that the tables held and every trial reported as ended is in the new tables.

    Args:
        before: The tables loaded before, or None.
        after: The tables written since.
        acknowledged: The trials that were reported as ended.
    """
    trials = after.trials.set_index("trial_id")
    epochs = after.epochs.set_index(["trial_id", "epoch"])
    for trial_id, history in acknowledged.items():
        assert trials.loc[trial_id, "status"] == history.status
        assert trials.loc[trial_id, "epochs_run"] == len(history.epochs)
        for told in history.epochs:
            np.testing.assert_array_equal(
                epochs.loc[(trial_id, told["epoch"]), "eval_accuracy"], told["eval_accuracy"]
            )
    if before is None:
        return
    for name, keys in (
        ("trials", ["trial_id"]),
        ("epochs", ["trial_id", "epoch"]),
        ("steps", ["trial_id", "step"]),
    ):
        old = getattr(before, name).set_index(keys)
        new = getattr(after, name).set_index(keys).reindex(old.index)
        if name == "trials":  # an interrupted trial may have continued, and ranks may change
            old = old[old["status"] != "interrupted"].drop(columns="rank")
            new = new.loc[old.index].drop(columns="rank")
        assert old.equals(new), f"{name}:\n{old.compare(new)}"
