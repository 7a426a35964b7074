"""Measure trials per hour through Ray: our study against the paper's loop in Ray Tune.

Both run the same number of equal trials (the paper's hyperparameters) to the last epoch.
Ours is `study.run` itself, with its journal, tables and checkpoints. The other is the
paper's loop in a function trainable with Ray Tune's default settings.

Start-up is shown separately. It is the time from the command to the start of the first epoch.
The time from there to the end of the last trial is split into training and the rest:

    python -m benchmarks.study --trials 8 --epochs 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks import checks, machine
from study.config.trial import MODELS
from study.data.sources import default_data_dir


@dataclass(frozen=True)
class Measured:
    """One study.

    Attributes:
        wall_s: From the command's start to its end.
        start_up_s: From the command's start to the first epoch's start.
        search_s: From the first epoch's start to the last epoch's end.
        training_s: Sum of the durations of all epochs.
        between_epochs_s: Median time in a trial between the end of an epoch and the start of the
            next, which is used for reporting and, in ours, a checkpoint.
        trials: Number of trials.
        slots: Trials at once.
    """

    wall_s: float
    start_up_s: float
    search_s: float
    training_s: float
    between_epochs_s: float
    trials: int
    slots: int

    @property
    def per_hour(self) -> float:
        """Trials per hour after start-up."""
        return 3600 * self.trials / self.search_s

    @property
    def overhead_share(self) -> float:
        """Share of the slots' time in which no trial trained."""
        return 1 - self.training_s / (self.slots * self.search_s)

    @property
    def overhead_per_trial_s(self) -> float:
        """Seconds of a slot without training, per trial."""
        return (self.slots * self.search_s - self.training_s) / self.trials


def measure(command: list[str], ray_folder: Path, trials: int, slots: int) -> Measured:
    """Run and time `command`, which writes Ray Tune's result files below `ray_folder`."""
    began, clock = time.time(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - clock
    by_trial = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in ray_folder.rglob("result.json")
    ]
    epochs = [epoch for trial in by_trial for epoch in trial]
    between = [
        later["epoch_ended"] - later["epoch_seconds"] - earlier["epoch_ended"]
        for trial in by_trial
        for earlier, later in pairwise(trial)
    ]
    # Ray's own time stamps are in whole seconds. So both loops report when an epoch ended and
    # how long it took.
    first = min(epoch["epoch_ended"] - epoch["epoch_seconds"] for epoch in epochs)
    last = max(epoch["epoch_ended"] for epoch in epochs)
    return Measured(
        wall,
        first - began,
        last - first,
        sum(epoch["epoch_seconds"] for epoch in epochs),
        statistics.median(between) if between else 0.0,
        trials,
        slots,
    )


def ours(arguments: argparse.Namespace, slots: int, folder: Path) -> Measured:
    """Measure a study run by `study.run`."""
    fixed = ["--batch-size", str(arguments.batch_size), "--lr", "1", "--gamma", "0.7"]
    command = [sys.executable, "-m", "benchmarks.timed_run", "--name", "ours"]
    command += ["--results-dir", str(folder)]
    command += ["--model", arguments.model, "--width-mult", "1", "--scheduler", "none", *fixed]
    command += ["--num-samples", str(arguments.trials), "--epochs", str(arguments.epochs)]
    command += ["--sampler", "random", "--data-dir", str(arguments.data_dir)]
    return measure(command, folder / "ours", arguments.trials, slots)


def report(arguments: argparse.Namespace, slots: int, folder: Path) -> Measured:
    """Measure the paper's loop in Ray Tune."""
    options = {
        "model": arguments.model,
        "batch_size": arguments.batch_size,
        "epochs": arguments.epochs,
        "trials": arguments.trials,
        "data_dir": str(arguments.data_dir),
        "folder": str(folder),
    }
    command = [sys.executable, "-m", "benchmarks.report_tune", json.dumps(options)]
    return measure(command, folder / "report", arguments.trials, slots)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    checks.require(arguments.model, device, arguments.data_dir)
    slots = torch.cuda.device_count() or os.cpu_count() or 1
    slots = min(slots, arguments.trials)
    measured: dict[str, list[Measured]] = {"report in Ray Tune": [], "ours": []}
    for number in range(1, arguments.rounds + 1):
        for name, run in (("report in Ray Tune", report), ("ours", ours)):
            with tempfile.TemporaryDirectory() as folder:
                measured[name].append(run(arguments, slots, Path(folder)))
            print(f"round {number}, {name}: {measured[name][-1]}", file=sys.stderr, flush=True)
    rows = []
    for name, runs in measured.items():
        pairs = zip(measured["report in Ray Tune"], runs, strict=True)
        rows.append(
            [
                name,
                machine.spread([m.per_hour for m in runs], 0),
                machine.spread([m.per_hour / base.per_hour for base, m in pairs]),
                machine.spread([m.start_up_s for m in runs], 1),
                machine.spread([m.training_s / m.trials for m in runs], 1),
                machine.spread([m.overhead_per_trial_s for m in runs]),
                machine.spread([100 * m.overhead_share for m in runs], 1),
                machine.spread([1000 * m.between_epochs_s for m in runs], 0),
            ]
        )
    machine.show(
        f"{arguments.trials} trials of {arguments.model}, batch {arguments.batch_size}, "
        f"{arguments.epochs} epochs, {slots} at once, {arguments.rounds} round(s): median [range]",
        (
            "",
            "trials/hour",
            "x report",
            "start-up s",
            "training s/trial",
            "overhead s/trial",
            "overhead %",
            "between epochs ms",
        ),
        rows,
    )
    settings: dict[str, Any] = {**vars(arguments), "data_dir": str(arguments.data_dir)}
    settings.pop("json")
    results = {name: [asdict(m) for m in runs] for name, runs in measured.items()}
    machine.write(arguments.json, {"settings": settings, "results": results})


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if min(arguments.trials, arguments.epochs, arguments.rounds, arguments.batch_size) < 1:
        parser.error("--trials, --epochs, --rounds and --batch-size must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
