"""Hand the trials of an Optuna study to Ray Tune, and record their results in its journal.

Ray's own OptunaSearch does not survive a killed driver with a persistent study, because its
snapshot and the study then disagree. So nothing here is restored from a snapshot. Each Optuna
trial has one id, ``trial_00007``, which is also its Ray trial id and the name of its folder. A
new session reads the journal and the checkpoints, and lets Ray continue the trials that have
not ended. A trial is reported as ended once its history is on the disk.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm

from study.cluster.ray_private import continue_trial, error_file, make_trial
from study.config.study import METRIC, MODE, StudyConfig
from study.config.trial import TrialConfig
from study.console.file_errors import is_refusal
from study.results.history import NOTHING, History
from study.results.journal import (
    JOURNAL_FILE,
    is_retry,
    num_planned,
    open_journal,
    reporting_damage,
    seed_number,
    trial_name,
    trial_status,
)
from study.results.recovery import Recovered, asked
from study.results.storage import Storage
from study.search.samplers import first_points, make_sampler, suggest
from study.search.stop_request import StopRequest
from study.training.epoch import EpochRecord


def open_optuna_study(folder: Path, config: StudyConfig) -> optuna.Study:
    """Open the study's journal in `folder` for writing; it is created if missing.

    The caller holds the study's lock, and has checked with `study.results.recovery.recover` that
    the journal belongs to this study.
    """
    storage = open_journal(folder)
    with reporting_damage(folder / JOURNAL_FILE):
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            direction="maximize" if MODE == "max" else "minimize",
            load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )
        trials = study.get_trials(deepcopy=False)
        begun = {"config", "fingerprint"} & set(study.user_attrs)  # the latter: earlier versions
        study.set_metric_names([METRIC])
    study.sampler = make_sampler(config, len(trials))
    if not begun or config.points:
        planned = sum(not is_retry(trial) for trial in trials)
        for point in first_points(config, planned):
            study.enqueue_trial(point)
    if "config" not in study.user_attrs:  # last, because it marks that the first points are there
        study.set_user_attr("config", json.dumps(config.fixed_part()))
    return study


def retry_failed(study: optuna.Study) -> int:
    """Run each failed trial again, as a new trial with the same seed. Returns how many."""
    trials = study.get_trials(deepcopy=False)
    retried = {seed_number(trial): trial.number for trial in trials}  # the latest run of each
    failed = [t for t in trials if t.state.is_finished() and trial_status(t) == "failed"]
    again = [t for t in failed if retried[seed_number(t)] == t.number and t.params]
    for trial in again:
        study.enqueue_trial(trial.params, user_attrs={"retry_of": seed_number(trial)})
    return len(again)


class StudySearch(SearchAlgorithm):
    """Gives Ray Tune the trials of an Optuna study: first the unfinished ones, then new ones.

    Args:
        study: The open Optuna study.
        config: The study's configuration.
        max_concurrent: Maximum number of trials at once.
        storage: The study's files.
        recovered: What earlier sessions left. Each trial that ends is added to it.
        stop: Stops the session if it cannot go on.
    """

    def __init__(
        self,
        study: optuna.Study,
        config: StudyConfig,
        max_concurrent: int,
        storage: Storage,
        recovered: Recovered,
        stop: StopRequest,
    ) -> None:
        self._study = study
        self._config = config
        self._max_concurrent = max_concurrent
        self._storage = storage
        self._recovered = recovered
        self._stop = stop
        self._stopped = False  # by Ray
        self._experiment: Experiment | None = None
        self._planned = num_planned(config, study.get_trials(deepcopy=False))
        started = [t for t in study.trials if t.state != TrialState.WAITING]
        self._earlier = deque(t for t in started if not t.state.is_finished())
        self._created = len(started)
        self._live: dict[str, tuple[optuna.Trial, Trial]] = {}

    # Ray's interface, in the order in which Ray calls it.

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Do nothing: the study has its own metric and space."""
        return True

    @property
    def total_samples(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] -- Ray's has no annotation and returns 0
        """Trials in all, including earlier ones."""
        return self._planned

    def add_configurations(self, experiments: Any) -> None:
        """Take the experiment. Ray passes exactly one."""
        (self._experiment,) = experiments if isinstance(experiments, list) else [experiments]

    def is_finished(self) -> bool:
        """Whether no further trial will come."""
        return self._stopped or (not self._earlier and self._created >= self.total_samples)

    def set_finished(self) -> None:
        """Start no further trial."""
        self._stopped = True

    def next_trial(self) -> Trial | None:
        """The next unfinished or new trial; None while enough trials are running."""
        while self._earlier:
            if (trial := self._revive(self._earlier.popleft())) is not None:
                return trial
        if self.is_finished() or len(self._live) >= self._max_concurrent:
            return None
        self._created += 1
        return self._start(self._study.ask())

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch's value in the Optuna study."""
        self._report(self._live[trial_id][0], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record how a trial ended. Ray reports the stopping epoch only here."""
        optuna_trial, ray_trial = self._live.pop(trial_id)
        if error or not result:
            reason = _error_line(ray_trial)
            if is_refusal(reason):  # not the trial's fault, so it can be continued later
                self._stop.ask(f"{reason} ({self._storage.location}); fix that first")
                return
            newest = self._newest_checkpoint(optuna_trial, ray_trial, resumable=False)
            self._end(optuna_trial, "failed", newest[1] if newest else NOTHING, error=reason)
            return
        self._report(optuna_trial, result)
        history = self._last_history(optuna_trial, ray_trial, result["epoch"])
        if history is None:  # a later session can continue it from an earlier epoch
            self._stop.ask(
                f"{trial_id}: its last checkpoint in {self._storage.location} cannot be read back"
            )
            return
        self._end_as(optuna_trial, result, history)

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Do nothing: the journal and the checkpoints hold the state."""

    # Trials of this and of earlier sessions.

    def _start(self, optuna_trial: optuna.Trial) -> Trial:
        """A new Ray trial for a new Optuna trial, or for one that has no intact checkpoint."""
        params = suggest(optuna_trial, self._config)
        ray_trial = self._make_ray_trial(optuna_trial, params)
        # Any checkpoint there is damaged, or belongs to a trial that the journal does not know.
        self._storage.keep_only(ray_trial.trial_id, None)
        self._live[ray_trial.trial_id] = (optuna_trial, ray_trial)
        self._storage.push()  # before the trial writes, so that the store knows the trial
        return ray_trial

    def _revive(self, frozen: FrozenTrial) -> Trial | None:
        """Continue an earlier session's trial. Returns None if it only had to be ended."""
        trial_id = trial_name(frozen.number)
        # The class is public, but there is no public way to an existing trial's storage id.
        optuna_trial = optuna.trial.Trial(self._study, frozen._trial_id)
        if (ended := self._recovered.ended.get(trial_id)) is not None:  # the journal lacks it
            for epoch in ended.epochs:
                self._report(optuna_trial, epoch)
            self._end(optuna_trial, ended.status or "failed", ended, error=ended.error)
            return None
        if not asked([frozen], self._config):
            return self._start(optuna_trial)
        ray_trial = self._make_ray_trial(frozen, frozen.params)
        found = self._newest_checkpoint(frozen, ray_trial, resumable=True)
        if found is None:
            return self._start(optuna_trial)
        checkpoint, history = found
        self._storage.keep_only(trial_id, checkpoint)
        last = EpochRecord(**history.epochs[-1])
        for epoch in history.epochs:
            self._report(optuna_trial, epoch)
        if last.ends(self._config.epochs):  # killed before its end was recorded
            result = {"epoch": last.epoch, "diverged": last.diverged}
            self._end_as(optuna_trial, result, history)
            return None
        number = int(checkpoint.rpartition("_")[2])
        continue_trial(ray_trial, self._storage.ray_checkpoint(checkpoint), number)
        self._live[ray_trial.trial_id] = (optuna_trial, ray_trial)
        return ray_trial

    def _newest_checkpoint(
        self, trial: FrozenTrial | optuna.Trial, ray_trial: Trial, *, resumable: bool
    ) -> tuple[str, History] | None:
        made_with = TrialConfig(**ray_trial.config)
        return self._storage.newest_checkpoint(
            trial_name(trial.number), made_with, resumable=resumable
        )

    def _last_history(self, trial: optuna.Trial, ray_trial: Trial, epochs: int) -> History | None:
        """The history in the checkpoint of a trial's last epoch; None if there is none."""
        checkpoint = ray_trial.checkpoint
        history = self._storage.history_in(checkpoint.path) if checkpoint else None
        if history is None or len(history.epochs) < epochs:
            newest = self._newest_checkpoint(trial, ray_trial, resumable=False)
            history = newest[1] if newest else None
        return history if history is not None and len(history.epochs) == epochs else None

    def _make_ray_trial(self, trial: FrozenTrial | optuna.Trial, params: dict[str, Any]) -> Trial:
        assert self._experiment is not None
        config = vars(self._config.trial_config(params, seed_number(trial)))
        return make_trial(self._experiment, trial_name(trial.number), config, params)

    # Optuna's side.

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        """Record an epoch's value, unless it is recorded already or not finite."""
        known = self._study._storage.get_trial(trial._trial_id).intermediate_values
        if result["epoch"] not in known and np.isfinite(result[METRIC]):
            trial.report(result[METRIC], result["epoch"])

    def _end_as(self, trial: optuna.Trial, result: Mapping[str, Any], history: History) -> None:
        """End a trial that stopped by itself after the epoch of `result`."""
        if result["diverged"]:
            error = f"loss not finite in epoch {result['epoch']}"
            self._end(trial, "diverged", history, error=error)
        elif result["epoch"] < self._config.epochs:
            self._end(trial, "pruned", history)
        else:
            self._end(trial, "complete", history)

    def _end(self, trial: optuna.Trial, status: str, history: History, *, error: str = "") -> None:
        """Save a trial's history, then record that the trial has ended."""
        trial_id = trial_name(trial.number)
        earlier = self._recovered.partial.get(trial_id, NOTHING)
        if len(earlier.epochs) > len(history.epochs):  # it came further in an earlier session
            history = earlier
        history = replace(history, status=status, error=error)
        self._storage.keep(trial_id, history)
        self._recovered.ended[trial_id] = history
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
            status, TrialState.FAIL
        )
        trial.set_user_attr("status", status)
        trial.set_user_attr("epochs", len(history.epochs))
        if error or "error" in trial.user_attrs:  # a killed session may have left an error
            trial.set_user_attr("error", error)
        value = history.epochs[-1][METRIC] if status == "complete" else None
        self._study.tell(trial, value, state=state)
        self._storage.push()
        if status == "complete":  # the last checkpoint holds its final model
            self._storage.keep_last(trial_id)
        self._recovered.untabled.add(trial_id)


def _error_line(trial: Trial) -> str:
    """The last line of a failed trial's traceback."""
    path = error_file(trial)
    text = path.read_text("utf-8", "replace") if path and path.is_file() else ""
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "ended without a result"
