"""Run one session of a search or comparison, from its configuration to its tables."""

from __future__ import annotations

import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune

from study.cluster import joining, ray_private
from study.config.study import StudyConfig
from study.console.file_errors import saying_how_to_go_on
from study.console.signals import on_first_signal
from study.console.terminal import Terminal
from study.data import images, sources
from study.results.journal import num_planned, trial_name, trial_status
from study.results.lock import locked
from study.results.recovery import Recovered, recover, repair
from study.results.storage import RAY_FOLDER, Storage
from study.results.study_file import SessionRecord, StudyFile, resume_command
from study.results.table_writer import TableWriter
from study.search import node_checks
from study.search.early_stopping import make_scheduler
from study.search.progress import StudyProgress
from study.search.searcher import StudySearch, open_optuna_study, retry_failed
from study.search.stop_request import StopRequest
from study.search.trainable import TrialTrainable


@dataclass(frozen=True)
class RunOptions:
    """How a session runs. These options may differ between the sessions of one study.

    Attributes:
        data_dir: Folder of the images; missing files are downloaded there.
        address: Ray cluster to join; None: this machine.
        gpus_per_trial: GPUs per trial; None: one if there are any.
        max_concurrent: Maximum number of trials at once; None: as many as fit.
        retry_failed: Whether to run failed trials again.
        time_budget_s: Stop after this time; None: never.
    """

    data_dir: Path
    address: str | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    retry_failed: bool = False
    time_budget_s: float | None = None


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

    @property
    def exit_status(self) -> int:
        """Exit status of the command: 1 if the study has ended without any result."""
        return int(self.all_failed)


class Session:
    """One session of a study. It runs until all trials have ended or it is stopped.

    Args:
        storage: The study's files. To continue a study the caller must hold its lock.
        config: The study's configuration.
        options: How the session runs.
    """

    def __init__(self, storage: Storage, config: StudyConfig, options: RunOptions) -> None:
        self.storage = storage
        self.config = config
        self.options = options
        self.stop = StopRequest(options.time_budget_s)
        self.console = Terminal(on_closed=lambda: self.stop.ask("its output was closed"))

    def run(self, *, resume: bool) -> Outcome:
        """Run a new study or, with `resume`, an earlier one.

        Nothing is written to the study's folder until data and cluster are known to be there.

        Raises:
            UserError: Something the user can fix.
        """
        folder, options = self.storage.folder, self.options
        # First, so that faults in the study's files are reported before Ray starts.
        recovered = Recovered()
        if resume:
            with self.console.status("Reading what earlier sessions left …"):
                recovered = recover(self.storage, self.config)
        with self.console.status(
            f"Checking the {self.config.dataset} files; downloading missing ones …"
        ):
            sources.fetch(self.config.dataset, options.data_dir)
        with ExitStack() as stack:
            stack.enter_context(_quiet_libraries())
            with self.console.status("Joining Ray …" if options.address else "Starting Ray …"):
                joining.connect(options.address)
            if options.address is None:
                stack.callback(ray.shutdown)
            stack.enter_context(saying_how_to_go_on(folder, self._again()))
            slots, slow = self._plan_slots()
            if not resume:
                stack.enter_context(locked(folder, resume=False))
            # Before anything is printed, because a reader may answer with a signal.
            stack.enter_context(on_first_signal(self._on_signal))
            study = self._open_study(slots, slow, recovered, resume=resume)
            opened_for = self.config.opened_for
            recorded = self.storage.beside(opened_for) if opened_for else self.storage
            train, evaluated = images.load_images(
                self.config, options.data_dir, record=recorded.folder / images.OPENINGS_FILE
            )
            recorded.push_openings()  # before anything is measured
            trainable = tune.with_resources(
                tune.with_parameters(
                    TrialTrainable,
                    keep=self.config.keeps_predictions,
                    gpu=slots.gpus_per_trial > 0,
                    train_images=train.images,
                    train_labels=train.labels,
                    eval_images=evaluated.images,
                    eval_labels=evaluated.labels,
                ),
                {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial},
            )
            tables = TableWriter(self.storage, self.config, study, evaluated, recovered)
            searcher = StudySearch(
                study, self.config, slots.count, self.storage, recovered, self.stop
            )
            return self.run_trials(study, searcher, trainable, tables)

    def run_trials(
        self, study: optuna.Study, searcher: StudySearch, trainable: Any, tables: TableWriter
    ) -> Outcome:
        """Run the trials until all have ended or the session is stopped.

        Args:
            study: The open Optuna study.
            searcher: Gives the trials to Ray.
            trainable: The class that runs a trial.
            tables: Writes the tables during the session and at its end.
        """
        start = time.monotonic()
        planned = num_planned(self.config, study.get_trials(deepcopy=False))
        progress = self._progress(study, planned)
        self.stop.start_clock()
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=make_scheduler(self.config, study.trials),
                num_samples=planned,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=RAY_FOLDER,
                storage_path=self.storage.location,
                stop=self.stop,
                verbose=0,
                callbacks=[ProgressCallback(progress, tables, self.storage)],
            ),
        )
        with progress:
            if not searcher.is_finished():
                tuner.fit()
        with self.console.status("Writing the tables …"):
            tables.write()
        statuses = _ended(study)
        reason = self.stop.reason() if len(statuses) < planned else None
        return Outcome(reason, Counter(statuses), planned, time.monotonic() - start)

    def _plan_slots(self) -> tuple[joining.Slots, list[str]]:
        """Plan where trials run, and check each node. Also returns what makes some slow."""
        joined = self.options.address is not None
        slots = joining.plan_slots(
            self.options.gpus_per_trial, self.options.max_concurrent, elastic=joined
        )
        with self.console.status("Checking the nodes and compiling the kernels …"):
            slow = node_checks.check(self.storage, cluster=joined, gpus=slots.gpus_per_trial > 0)
        ray_private.limit_pending(slots.count)
        return slots, slow

    def _open_study(
        self, slots: joining.Slots, slow: list[str], recovered: Recovered, *, resume: bool
    ) -> optuna.Study:
        """Repair the study, record the new session and open the journal."""
        storage, options, console = self.storage, self.options, self.console
        for note in recovered.notes:
            console.print(note, soft_wrap=True)
        repair(storage, recovered)
        earlier = StudyFile.read(storage.folder).sessions if resume else ()
        session = SessionRecord.of_this_process(
            options.address,
            nodes=slots.nodes,
            concurrent_trials=slots.count,
            gpus_per_trial=slots.gpus_per_trial,
        )
        StudyFile.of(self.config, storage.uri, (*earlier, session)).write(storage.folder)
        study = open_optuna_study(storage.folder, self.config)
        if options.retry_failed:
            console.print(f"Failed trials to run again: {retry_failed(study)}.")
        console.print(f"{storage.folder}: {slots.describe()}")
        console.print("If the study is interrupted, continue with:")
        console.print(f"  {self._again()}", soft_wrap=True)
        for line in slow:
            console.print(line, soft_wrap=True)
        return study

    def _again(self) -> str:
        """The command that continues the study."""
        place = self.storage.uri or self.storage.folder
        return resume_command(self.config, place, self.options.address)

    def _progress(self, study: optuna.Study, planned: int) -> StudyProgress:
        ranked = self.config.is_ranked
        return StudyProgress(
            self.console,
            planned,
            self.config.epochs,
            earlier=_ended(study),
            best=_best(study) if ranked else None,
            ranked=ranked,
        )

    def _on_signal(self, number: signal.Signals) -> None:
        self.stop.ask(f"stopped by {number.name}")
        self.console.print(
            "Stopping; finished epochs are saved. Press Ctrl-C again to quit at once."
        )


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep Ray and Optuna from printing over the study's own view during a session."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    experimental = optuna.exceptions.ExperimentalWarning
    try:
        with ray_private.quiet(), warnings.catch_warnings(action="ignore", category=experimental):
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _ended(study: optuna.Study) -> list[str]:
    """The status of each trial that has ended."""
    trials = study.get_trials(deepcopy=False)
    return [trial_status(trial) for trial in trials if trial.state.is_finished()]


class ProgressCallback(tune.Callback):
    """Passes Ray Tune's events on to the live view and to the tables.

    Ray pickles its callbacks into its experiment folder. The view and the tables are left out of
    that, because they hold a terminal and locks.
    """

    def __init__(self, progress: StudyProgress, tables: TableWriter, storage: Storage) -> None:
        self.progress = progress
        self.tables = tables
        self.storage = storage

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Ray's hook."""
        self.progress.starting = {
            trial.trial_id: trial.evaluated_params for trial in trials if trial.status == "PENDING"
        }

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
