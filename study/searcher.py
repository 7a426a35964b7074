"""The search: Optuna asks, Ray Tune runs, and the Optuna journal is the truth.

Ray's own OptunaSearch does not survive a killed driver with a persistent study:
its snapshot and the study then disagree. Here nothing is restored from a
snapshot. Each Optuna trial has one id, ``trial_00007``, which is also its Ray
trial id and its folder; a new session reads the journal and the checkpoints and
hands Ray every earlier trial again: ended ones as ended, unfinished ones to be
continued. What an ended trial is in Optuna: ``complete`` is COMPLETE,
``pruned`` is PRUNED with its last value, ``diverged`` and ``failed`` are FAIL.
"""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.train._internal.session import _TrainingResult
from ray.tune import CheckpointConfig
from ray.tune.experiment import Experiment, Trial
from ray.tune.search import SearchAlgorithm

from study.comparison import ComparisonConfig
from study.config import METRIC, MODE, StudyConfig, UserError
from study.journal import JOURNAL_FILE, journal_at, trial_name
from study.results import History
from study.samplers import first_points, make_sampler, suggest
from study.signals import StopRequest
from study.space import space_of
from study.storage import Storage

CHECKPOINTS = CheckpointConfig(checkpoint_frequency=1, num_to_keep=2)
TRIAL_RETRIES = 3  # after an error or a lost node, from the last checkpoint


def open_optuna_study(folder: Path, config: StudyConfig | ComparisonConfig) -> optuna.Study:
    """The study's journal in `folder`, created where there is none.

    The caller holds the study's lock, so a lock or a half line left by a killed
    process is stale and is cleared away.

    Raises:
        UserError: The journal is of another study or space, or damaged.
    """
    path = folder / JOURNAL_FILE
    (folder / f"{JOURNAL_FILE}.lock").unlink(missing_ok=True)
    _drop_half_line(path)
    fingerprint = json.dumps(config.identity())
    with journal_at(path) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            direction="maximize" if MODE == "max" else "minimize",
            load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )
        study.sampler = make_sampler(config, len(study.trials))
        study.set_metric_names([METRIC])
    if not study.trials:
        study.set_user_attr("fingerprint", fingerprint)
    elif study.user_attrs.get("fingerprint") != fingerprint:
        raise UserError(
            f"{path}: belongs to a study with another space; {folder / 'study.json'} was changed "
            "or replaced, restore it or start a new study"
        )
    for origin, point in first_points(config, len(study.trials)):
        study.enqueue_trial(point, user_attrs={"origin": origin})
    return study


def _drop_half_line(path: Path) -> None:
    """Cut what a killed process left unfinished at the journal's end."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


class StudySearch(SearchAlgorithm):
    """Feeds Ray Tune with the trials of an Optuna study, earlier ones first.

    Args:
        study: The open Optuna study.
        config: What is searched.
        max_concurrent: Most trials at once.
        storage: The study's files.
    """

    def __init__(
        self,
        study: optuna.Study,
        config: StudyConfig | ComparisonConfig,
        max_concurrent: int,
        storage: Storage,
    ) -> None:
        self._study = study
        self._config = config
        self._space = space_of(config)
        self._max_concurrent = max_concurrent
        self._storage = storage
        self._experiment: Experiment | None = None
        started = [t for t in study.trials if t.state != TrialState.WAITING]
        # Ended ones first: they cost nothing and complete Ray's view of the study.
        self._earlier = deque(sorted(started, key=lambda t: not t.state.is_finished()))
        self._created = len(started)
        self._live: dict[str, tuple[optuna.Trial, Trial]] = {}

    # Ray's interface, in the order in which Ray calls it.

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Nothing to set: metric and space are the study's."""
        return True

    @property
    def total_samples(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] -- Ray's has no annotation and returns 0
        """Trials in all, earlier ones included."""
        return self._config.num_samples

    def add_configurations(self, experiments: Any) -> None:
        """Take the experiment, of which Ray passes exactly one."""
        (self._experiment,) = experiments if isinstance(experiments, list) else [experiments]

    def is_finished(self) -> bool:
        """Whether no further trial will come."""
        return self._finished or (not self._earlier and self._created >= self.total_samples)

    def next_trial(self) -> Trial | None:
        """The next earlier or new trial, or None while enough are running."""
        if self._earlier:
            return self._revive(self._earlier.popleft())
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
            if os.strerror(errno.ENOSPC) in reason:  # not the trial's fault: it can go on later
                StopRequest.asked = f"{reason} ({self._storage.location}); make room first"
                return
            self._tell(optuna_trial, "failed", error=reason)
            return
        self._report(optuna_trial, result)
        self._tell_result(optuna_trial, result)

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Nothing to save: the journal and the checkpoints are the state."""

    # Trials of this and of earlier sessions.

    def _start(self, optuna_trial: optuna.Trial) -> Trial:
        """A new Ray trial for a fresh Optuna trial, or for one that never ran an epoch."""
        params = suggest(optuna_trial, self._space)
        ray_trial = self._make_ray_trial(optuna_trial.number, params)
        optuna_trial.set_user_attr("ray_trial_id", ray_trial.trial_id)
        optuna_trial.set_user_attr("seed", ray_trial.config["seed"])
        self._live[ray_trial.trial_id] = (optuna_trial, ray_trial)
        self._storage.push()  # before the trial writes: what is stored is of a known trial
        return ray_trial

    def _revive(self, frozen: FrozenTrial) -> Trial:
        """The Ray trial of an earlier session's trial: ended, or to be continued."""
        trial_id = trial_name(frozen.number)
        found = self._storage.newest_history(trial_id, resumable=not frozen.state.is_finished())
        if frozen.state.is_finished():
            return self._ended(frozen, found[1] if found else None)
        # A public class without a public way to an existing trial's storage id.
        optuna_trial = optuna.trial.Trial(self._study, frozen._trial_id)
        self._storage.keep_only(trial_id, found and found[0])
        if found is None:
            return self._start(optuna_trial)
        checkpoint, history = found
        last = history.epochs[-1]
        for epoch in history.epochs:
            self._report(optuna_trial, epoch)
        diverged = not np.isfinite([last["train_loss"], last["val_loss"]]).all()
        if last["epoch"] >= self._config.epochs or diverged:  # killed before it was told
            self._tell_result(optuna_trial, {**last, "diverged": diverged})
            return self._ended(self._study.trials[frozen.number], history)
        ray_trial = self._make_ray_trial(frozen.number, frozen.params)
        # What Ray sets from its argument restore_path, which takes local folders only.
        ray_trial._restore_checkpoint_result = _TrainingResult(
            self._storage.ray_checkpoint(checkpoint), metrics={}
        )
        # The next checkpoint's number follows on, so that the newest sorts last.
        assert ray_trial.storage is not None
        ray_trial.storage.current_checkpoint_index = int(checkpoint.rpartition("_")[2])
        _write_ray_results(ray_trial, history)
        self._live[ray_trial.trial_id] = (optuna_trial, ray_trial)
        return ray_trial

    def _ended(self, frozen: FrozenTrial, history: History | None) -> Trial:
        ray_trial = self._make_ray_trial(frozen.number, frozen.params)
        _write_ray_results(ray_trial, history, ended_in=self._storage)
        # Ray would run a trial in state ERROR again where it can; TERMINATED is final.
        ray_trial.set_status(Trial.TERMINATED)
        return ray_trial

    def _make_ray_trial(self, number: int, params: dict[str, Any]) -> Trial:
        assert self._experiment is not None
        spec = self._experiment.spec
        name = trial_name(number)
        return Trial(
            spec["run"],
            config=vars(self._config.trial_config(params, number)),
            trial_id=name,
            evaluated_params=params,
            experiment_tag=name,
            storage=spec["storage"],
            checkpoint_config=CHECKPOINTS,
            max_failures=TRIAL_RETRIES,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        )

    # Optuna's side.

    def _report(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        """Record an epoch's value, once; not-a-number is left out."""
        known = self._study._storage.get_trial(trial._trial_id).intermediate_values
        if result["epoch"] not in known and np.isfinite(result[METRIC]):
            trial.report(result[METRIC], result["epoch"])

    def _tell_result(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        if result["diverged"]:
            self._tell(trial, "diverged", error=f"loss not finite in epoch {result['epoch']}")
        elif result["epoch"] < self._config.epochs:
            self._tell(trial, "pruned")
        else:
            self._tell(trial, "complete", value=result[METRIC])

    def _tell(
        self, trial: optuna.Trial, status: str, *, value: float | None = None, error: str = ""
    ) -> None:
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
            status, TrialState.FAIL
        )
        trial.set_user_attr("status", status)
        if error:
            trial.set_user_attr("error", error)
        self._study.tell(trial, value, state=state)
        self._storage.push()


def replay(scheduler: Any, trials: Iterable[FrozenTrial], metric: str) -> None:
    """Tell a fresh scheduler what earlier sessions' trials reported.

    Args:
        scheduler: A Ray trial scheduler that looks at a trial's id alone, such as ASHA.
        trials: The study's trials.
        metric: The name under which the scheduler expects a value.
    """
    for frozen in trials:
        stand_in: Any = _Id(trial_name(frozen.number))
        scheduler.on_trial_add(None, stand_in)
        for epoch, value in sorted(frozen.intermediate_values.items()):
            scheduler.on_trial_result(None, stand_in, {"epoch": epoch, metric: value})


class _Id:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def _write_ray_results(
    trial: Trial, history: History | None, *, ended_in: Storage | None = None
) -> None:
    """Give Ray's folder of an earlier trial its whole ``result.json``.

    Ray copies the file of the current session over the one in storage, and a
    killed driver leaves the one in storage incomplete.
    """
    trial.init_local_path()  # Ray asks for the place of a trial without results, too
    assert trial.local_path is not None
    folder = Path(trial.local_path)
    if history is not None:
        rows = [
            {**epoch, "training_iteration": epoch["epoch"], "trial_id": trial.trial_id}
            for epoch in history.epochs
        ]
        lines = "".join(json.dumps({**row, "config": trial.config}) + "\n" for row in rows)
        (folder / "result.json").write_text(lines)
        (folder / "params.json").write_text(json.dumps(trial.config))
        if rows:
            trial.run_metadata.last_result = rows[-1]
    if ended_in is not None:
        ended_in.take(trial.trial_id, folder)


def _error_line(trial: Trial) -> str:
    """The last line of a failed trial's traceback."""
    started = trial.relative_logdir is not None
    path = trial.error_file if started else None
    lines = Path(path).read_text().strip().splitlines() if path and Path(path).exists() else []
    return lines[-1][:500] if lines else "ended without a result"
