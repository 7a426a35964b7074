"""Run one study of synthetic trials and measure its driver; started by `benchmarks.scale`."""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
import rich.live
from ray import tune
from ray.train._internal import storage as ray_storage
from ray.tune.execution.tune_controller import TuneController
from ray.tune.schedulers import ASHAScheduler

from benchmarks.synthetic import SyntheticTrainable
from study.cluster import joining
from study.cluster.ray_private import limit_pending, quiet
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.console.terminal import Terminal
from study.data.images import ImageData
from study.results.recovery import Recovered
from study.results.storage import HISTORIES, RAY_FOLDER, Storage
from study.results.table_writer import TableWriter
from study.search import session
from study.search.searcher import JOURNAL_FILE, StudySearch, open_optuna_study

# The parts of the driver's work, and the functions in which each is done.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "sampler": [(optuna.samplers.BaseSampler, "sample_relative")],  # of the class in use
    "ask": [(StudySearch, "next_trial")],
    "report": [(StudySearch, "on_trial_result")],
    "tell": [(StudySearch, "on_trial_complete")],
    "keep": [(Storage, "keep"), (Storage, "keep_last"), (StudySearch, "_last_history")],
    "tables": [(TableWriter, "write")],
    "view": [(rich.live.Live, "refresh")],
    "callback": [(session.ProgressCallback, f"on_trial_{e}") for e in ("start", "result")]
    + [(session.ProgressCallback, "_end")],
    "asha": [
        (ASHAScheduler, "on_trial_result"),
        (ASHAScheduler, "on_trial_complete"),
    ],
    "snapshot": [(TuneController, "save_to_dir")],
    "upload": [(ray_storage, "_upload_to_fs_path")],
}


@dataclass
class Part:
    """The cost of one part of the driver's work, without the parts called within it.

    Attributes:
        cpu_s: CPU seconds of each call, on the calling thread.
        wall_s: Wall seconds of each call.
    """

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """The sums, and the mean cost of the last tenth of the calls."""
        last = max(1, len(self.cpu_s) // 10)
        return {
            "calls": len(self.cpu_s),
            "cpu_s": sum(self.cpu_s),
            "wall_s": sum(self.wall_s),
            "last_cpu_s": sum(self.cpu_s[-last:]) / last,
            "last_wall_s": sum(self.wall_s[-last:]) / last,
        }


class Stopwatch:
    """Times function calls by part, separately in each thread."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = defaultdict(Part)
        self._local = threading.local()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time the calls of `owner`'s function `name` as `part`."""
        setattr(owner, name, self._timed(getattr(owner, name), self.parts[part]))

    def _timed(self, function: Callable[..., Any], part: Part) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._local, "within", None)
            within = self._local.within = [0.0, 0.0]
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                part.cpu_s.append(cpu - within[0])
                part.wall_s.append(wall - within[1])
                self._local.within = outer
                if outer is not None:
                    outer[0] += cpu
                    outer[1] += wall

        return timed


@dataclass(frozen=True)
class Options:
    """One measured study.

    Attributes:
        folder: The study's folder. A study in it is continued.
        slots: Trials at once.
        trials: Trials in all.
        epochs: Epochs per trial, if it is not stopped early.
        sampler: As for `study.run`.
        scheduler: As for `study.run`.
    """

    folder: str
    slots: int
    trials: int
    epochs: int
    sampler: str
    scheduler: str


@dataclass(frozen=True)
class Measured:
    """The resources that the driver of one study used.

    Attributes:
        open_cpu_s: CPU seconds to read the journal.
        cpu_s: CPU seconds of the search, of all threads.
        wall_s: Wall seconds of the search.
        rss_mb: Peak memory of the driver.
        rss_grown_mb: Growth of the peak memory during the search.
        ended: Trials that have ended.
        epochs: Epochs reported to Ray in this session.
        bytes: Bytes on disk by kind of file.
        parts: Costs by part; see `Part.summary`.
    """

    open_cpu_s: float
    cpu_s: float
    wall_s: float
    rss_mb: float
    rss_grown_mb: float
    ended: int
    epochs: int
    bytes: dict[str, int]
    parts: dict[str, dict[str, float]]


def measure(options: Options) -> Measured:
    """Run the study with the same code that runs real studies."""
    folder = Path(options.folder)
    config = SearchConfig(
        name="scale",
        space=space_to_json(DEFAULT_SPACE),
        num_samples=options.trials,
        epochs=options.epochs,
        sampler=options.sampler,
        scheduler=options.scheduler,
    )
    start = time.process_time()
    study = open_optuna_study(folder, config)
    opened = time.process_time() - start
    storage = Storage(folder)
    nothing = ImageData(np.empty((0, 28, 28), np.uint8), np.empty(0, np.uint8))
    recovered = Recovered()
    tables = TableWriter(storage, config, study, nothing, recovered)
    stopwatch = Stopwatch()
    for part, functions in PARTS.items():
        for owner, name in functions:
            owner = type(study.sampler) if part == "sampler" else owner
            stopwatch.wrap(owner, name, part)
    crew = folder / "crew"
    crew.mkdir(exist_ok=True)
    trainable = tune.with_resources(
        tune.with_parameters(SyntheticTrainable, crew=crew, slots=options.slots),
        {"cpu": 1},
    )
    before = _peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    with Path(os.devnull).open("w") as screen:
        run = session.Session(storage, config, session.RunOptions(data_dir=folder))
        run.console = Terminal(file=screen, force_terminal=True, width=120, height=40)
        searcher = StudySearch(study, config, options.slots, storage, recovered, run.stop)
        with quiet():
            limit_pending(options.slots)
            run.run_trials(study, searcher, trainable, tables)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Measured(
        open_cpu_s=opened,
        cpu_s=cpu,
        wall_s=wall,
        rss_mb=_peak_mb(),
        rss_grown_mb=_peak_mb() - before,
        ended=sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)),
        epochs=len(stopwatch.parts["report"].cpu_s) + len(stopwatch.parts["tell"].cpu_s),
        bytes=_sizes(folder),
        parts={name: part.summary() for name, part in stopwatch.parts.items() if part.cpu_s},
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by kind of file."""
    patterns = {
        "journal": [JOURNAL_FILE],
        "tables": ["*.parquet"],
        "Ray's state": [f"{RAY_FOLDER}/*.json", f"{RAY_FOLDER}/*.pkl"],
        "histories": [f"{HISTORIES}/*"],
        "checkpoints": [f"{RAY_FOLDER}/trial_*/checkpoint_*/*"],
    }
    return {
        kind: sum(file.stat().st_size for each in globs for file in folder.glob(each))
        for kind, globs in patterns.items()
    }


def start_ray(slots: int) -> None:
    """Start our own Ray on loopback, and tell it that there is one core per slot."""
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": slots})
    joining.connect(None)


def main() -> None:
    """Run the command. Its only argument is `Options` as JSON, its output `Measured` as JSON."""
    options = Options(**json.loads(sys.argv[1]))
    start_ray(options.slots)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        print(json.dumps(asdict(measure(options))))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
