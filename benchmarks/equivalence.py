"""Check that the trainer learns the same as plain torch. Only then its speed counts.

After the quick checks of `benchmarks.checks` it compares the trainer's final validation accuracy,
in fp32 and in bf16, with the plain float32 path (no kernels, no graph), paired by seed. The check
passes if the lower end of the 95% interval of the mean difference is above minus the margin.

    python -m benchmarks.equivalence --seeds 10
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy import stats

from benchmarks import machine
from benchmarks.checks import make_trainer, require
from study.config.trial import MODELS
from study.data.sources import default_data_dir

MARGIN = 0.10  # percentage points of accuracy
ARMS = {"plain fp32": ("fp32", False), "fp32": ("fp32", True), "bf16": ("bf16", True)}


@dataclass(frozen=True)
class Run:
    """One training run of the comparison over seeds."""

    arm: str
    seed: int
    model: str
    batch_size: int
    epochs: int
    device: str
    data_dir: Path

    def accuracy(self) -> float:
        """Train to the end. Returns the final validation accuracy."""
        torch.set_num_threads(1)
        precision, compiled = ARMS[self.arm]
        trainer = make_trainer(
            self.model,
            self.batch_size,
            precision,
            self.device,
            self.data_dir,
            compiled=compiled,
            seed=self.seed,
            epochs=self.epochs,
        )
        while not trainer.finished:
            trainer.run_epoch()
        return trainer.epochs[-1].eval_accuracy


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    require(arguments.model, arguments.device, arguments.data_dir)
    fixed = (arguments.model, arguments.batch_size, arguments.epochs, arguments.device)
    runs = [
        Run(arm, seed, *fixed, arguments.data_dir)
        for seed in range(1, arguments.seeds + 1)
        for arm in ARMS
    ]
    accuracies: dict[str, list[float]] = {arm: [] for arm in ARMS}
    workers = 1 if arguments.device == "cuda" else os.cpu_count()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, (run, accuracy) in enumerate(
            zip(runs, pool.map(Run.accuracy, runs), strict=True), 1
        ):
            accuracies[run.arm].append(accuracy)
            print(f"{done}/{len(runs)} {run.arm} {accuracy:.2%}", file=sys.stderr, flush=True)
    rows, passed = [], True
    for arm, values in accuracies.items():
        plain = accuracies["plain fp32"]
        differences = [100 * (a - b) for a, b in zip(values, plain, strict=True)]
        mean = statistics.fmean(differences)
        low, high = stats.ttest_1samp(differences, 0).confidence_interval()
        holds = arm == "plain fp32" or low > -MARGIN
        passed = passed and holds
        rows.append(
            [
                arm,
                f"{statistics.fmean(values):.3%}",
                "" if arm == "plain fp32" else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                "" if arm == "plain fp32" else ("yes" if holds else "not shown"),
            ]
        )
    machine.show(
        f"{arguments.model}, batch {arguments.batch_size}, {arguments.epochs} epochs, "
        f"n = {arguments.seeds} seeds: final validation accuracy",
        ("", "mean", "minus plain fp32, points (95% t)", f"not worse by {MARGIN:.2f}"),
        rows,
    )
    settings = {**vars(arguments), "data_dir": str(arguments.data_dir)}
    settings.pop("json")
    machine.write(arguments.json, {"settings": settings, "accuracies": accuracies})
    if not passed:
        sys.exit("Equivalence is not shown. Use more --seeds to narrow the interval.")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equivalence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: cuda: torch sees no GPU here; leave it out to use the CPU")
    if arguments.seeds < 2:
        parser.error(f"--seeds: {arguments.seeds} gives no interval; use at least 2")
    return arguments


if __name__ == "__main__":
    main()
