"""Run a search or a comparison: from its configuration to its tables."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from rich.console import Console

from study import cluster, data, kernels, preflight, ray_private
from study.config import ASHA_GRACE_EPOCHS, ASHA_REDUCTION, METRIC, MODE, StudyConfig
from study.errors import StorageError, UserError
from study.files import is_refusal
from study.journal import num_planned, trial_name, trial_status
from study.progress import StudyProgress
from study.record import TableWriter, locked, write_study_json
from study.recovery import Recovered, recover, repair
from study.searcher import (
    StudySearch,
    open_optuna_study,
    replay,
    retry_failed,
)
from study.signals import StopRequest, on_first_signal
from study.space import space_of
from study.storage import RAY_FOLDER, Storage
from study.study_file import resume_command
from study.text import escape, one_line
from study.trainable import TrialTrainable


@dataclass(frozen=True)
class RunOptions:
    """How a session runs; free to differ between the sessions of one study.

    Attributes:
        data_dir: Where the images lie or are put.
        address: Cluster to join, or None for this machine.
        gpus_per_trial: None picks one where there are any.
        max_concurrent: Most trials at once; None for as many as fit.
        retry_failed: Run failed trials again.
    """

    data_dir: Path
    address: str | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        stopped: Why it ended early, or None.
        counts: Trials that have ended, over all sessions, by status.
        planned: Trials in all.
        seconds: Wall time of the session's search.
    """

    stopped: str | None
    counts: Counter[str]
    planned: int
    seconds: float

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        return self.counts.total()

    @property
    def all_failed(self) -> bool:
        """Whether all trials have ended and none has a result."""
        results = self.counts["complete"] + self.counts["pruned"]
        return self.ended >= self.planned and not results


def run_study(
    storage: Storage,
    config: StudyConfig,
    options: RunOptions,
    console: Console,
    stop: StopRequest,
    *,
    resume: bool,
) -> Outcome:
    """Run or continue the search or comparison in `storage` until it has ended or is stopped.

    Nothing is written to its folder before data and cluster are known to be there.

    Raises:
        UserError: Something the user can fix.
    """
    with ExitStack() as stack:
        if resume:  # at once: what is wrong with the study's files is to be known before Ray starts
            stack.enter_context(locked(storage.folder, resume=True))
        recovered = recover(storage, config) if resume else Recovered()
        with console.status(f"Checking the {config.dataset} files in {options.data_dir} …"):
            data.fetch(config.dataset, options.data_dir)
        stack.enter_context(ray_private.quiet())
        experimental = optuna.exceptions.ExperimentalWarning
        stack.enter_context(warnings.catch_warnings(action="ignore", category=experimental))
        with console.status("Starting Ray …" if options.address is None else "Joining Ray …"):
            cluster.connect(options.address)
        if options.address is None:
            stack.callback(ray.shutdown)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            slots = cluster.plan_slots(
                options.gpus_per_trial, options.max_concurrent, elastic=options.address is not None
            )
            with console.status("Checking the nodes …"):
                preflight.check(storage, cluster=options.address is not None)
            if not resume:
                stack.enter_context(locked(storage.folder, resume=False))
            ray_private.limit_pending(slots.count)
            return _run_session(
                storage, config, options, slots, recovered, console, stop, resume=resume
            )
        except Exception as error:
            if (fixable := _fixable(error, storage.folder)) is None:
                raise
            raise fixable from None


def _run_session(
    storage: Storage,
    config: StudyConfig,
    options: RunOptions,
    slots: cluster.Slots,
    recovered: Recovered,
    console: Console,
    stop: StopRequest,
    *,
    resume: bool,
) -> Outcome:
    """What `run_study` does once everything is known to be there."""
    folder = storage.folder
    for note in recovered.notes:
        console.print(note, soft_wrap=True)
    repair(storage, recovered)
    write_study_json(folder, config, options.address, slots, storage=storage.uri, resume=resume)
    study = open_optuna_study(folder, config)
    if options.retry_failed:
        console.print(f"{retry_failed(study)} failed trials run again.")
    console.print(f"{folder}: {slots.describe()}")
    again = resume_command(config, storage.uri or folder, options.address)
    console.print(f"If it is cut short, continue with: {again}", soft_wrap=True)
    if not (slots.gpus_per_trial or options.address) and (problem := kernels.problem()):
        console.print(f"{problem}. Trials train at about half the speed they could.")
    train, evaluated = _load_images(folder, config, options.data_dir)
    trainable = tune.with_resources(
        tune.with_parameters(
            TrialTrainable,
            keep=config.keeps_predictions,
            train_images=train.images,
            train_labels=train.labels,
            val_images=evaluated.images,
            val_labels=evaluated.labels,
        ),
        {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial},
    )
    tables = TableWriter(storage, config, study, evaluated, recovered)
    search = StudySearch(study, config, slots.count, storage, recovered, stop)
    return _search(storage, config, study, search, trainable, tables, console, stop)


def _fixable(error: BaseException | None, folder: Path) -> UserError | None:
    """What the user can do about `error`, which Ray may have wrapped in others."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        if isinstance(error, OSError) and not os.access(folder / "study.json", os.F_OK):
            return UserError(
                f"{folder}: was moved or removed while the study ran; put it back, then continue "
                f"with --resume {shlex.quote(str(folder))}"
            )
        if isinstance(error, OSError) and is_refusal(error):
            place = folder if error.filename is None else escape(str(error.filename), keep="")
            way_out = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
            return StorageError(
                f"{place}: {one_line(error.strerror or error)}; what was done is kept: {way_out}, "
                f"then continue with --resume {shlex.quote(str(folder))}"
            )
        error = error.__cause__ or error.__context__
    return None


def _load_images(
    folder: Path, config: StudyConfig, data_dir: Path
) -> tuple[data.ImageData, data.ImageData]:
    """What is trained on and what is evaluated; opens the test set under the paper's protocol."""
    if config.protocol == "split":
        return data.load_splits(config.dataset, data_dir, config.num_train)
    return data.load_training_images(config.dataset, data_dir), data.open_test_set(
        config.dataset,
        data_dir,
        record=folder / "test_set_openings.jsonl",
        reason=f"{config.name}: the report's protocol; nothing is selected",
    )


def _search(
    storage: Storage,
    config: StudyConfig,
    study: optuna.Study,
    search: StudySearch,
    trainable: Any,
    tables: TableWriter,
    console: Console,
    stop: StopRequest,
) -> Outcome:
    start = time.monotonic()
    ranked = config.is_ranked
    planned = num_planned(config, study.get_trials(deepcopy=False))
    progress = StudyProgress(
        console,
        planned,
        config.epochs,
        space_of(config),
        earlier=[trial_status(t) for t in study.trials if t.state.is_finished()],
        best=_best(study) if ranked else None,
        ranked=ranked,
    )
    stop.start_clock()
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=make_scheduler(config, study),
            num_samples=planned,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=RAY_FOLDER,
            storage_path=storage.location,
            stop=stop,
            verbose=0,
            callbacks=[ProgressCallback(progress, tables, storage)],
        ),
    )

    def on_signal(number: signal.Signals) -> None:
        stop.ask(f"stopped by {number.name}")
        console.print("Stopping; the trials' last epochs are kept. Once more ends it at once.")

    with progress, on_first_signal(on_signal):
        if not search.is_finished():
            tuner.fit()
    tables.write()
    statuses = [trial_status(trial) for trial in study.trials if trial.state.is_finished()]
    reason = stop.reason() if len(statuses) < planned else None
    return Outcome(reason, Counter(statuses), planned, time.monotonic() - start)


def make_scheduler(config: StudyConfig, study: optuna.Study) -> TrialScheduler:
    """The study's scheduler, told what its earlier trials reported."""
    if not config.stops_early:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode=MODE,
        max_t=config.epochs,
        grace_period=ASHA_GRACE_EPOCHS,
        reduction_factor=ASHA_REDUCTION,
    )
    replay(scheduler, study.trials, METRIC)
    return scheduler


class ProgressCallback(tune.Callback):
    """Passes Ray Tune's events on to the live view and to the tables.

    Ray pickles its callbacks into its experiment folder; the view, which holds
    a terminal and locks, and the tables stay out of that.
    """

    def __init__(self, progress: StudyProgress, tables: TableWriter, storage: Storage) -> None:
        self.progress = progress
        self.tables = tables
        self.storage = storage

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Ray's hook."""
        self.progress.trial_started(trial.trial_id, trial.evaluated_params)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Ray's hook."""
        self.progress.epoch_ended(trial.trial_id, {**result, "params": trial.evaluated_params})

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Ray's hook."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Ray's hook."""
        self._end(trial)

    def _end(self, trial: Any) -> None:
        status, error = self.tables.status_of(trial.trial_id)
        if status == "failed":
            error += f" (see {self.storage.trial_folder(trial.trial_id)}/error.txt)"
        self.storage.take(trial.trial_id, Path(trial.local_path))
        self.progress.trial_ended(trial.trial_id, status, error)
        self.tables.write_sometimes()


def _best(study: optuna.Study) -> tuple[str, float, dict[str, Any]] | None:
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        return None
    best = study.best_trial
    assert best.value is not None
    return trial_name(best.number), best.value, best.params
