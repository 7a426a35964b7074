"""Measure the cost of a large study's driver, and how it grows with trials and slots.

Each study runs the code of `study.run` (Optuna, Ray Tune, tables, live view) in its own driver
process and folder, with trials that train nothing. Ray is told that this machine has one CPU
per slot. Once a study has ended it is opened again, as with --resume:

    python -m benchmarks.scale --slots 2 10 --trials 100 1000

CPU time is that of all the driver's threads. It is valid even on a busy machine, unlike wall
time. The exponent says how the cost grew with the number of trials since the row above: 1 is
linear, 2 quadratic. The driver refreshes the live view twice a second, and writes tables and
Ray's snapshots at intervals. For these the table shows the cost of one at the end of the study.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.scale_driver import PARTS, Measured, Options
from study.config.search import SAMPLERS, SCHEDULERS

OTHER = "Ray and the rest"


def run(options: Options) -> Measured:
    """Run the study of `options` in its own driver process."""
    command = [sys.executable, "-m", "benchmarks.scale_driver", json.dumps(asdict(options))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def exponents(trials: Sequence[int], costs: Sequence[float]) -> list[float | None]:
    """The exponent of the cost as a power of the trials, from the size before; first None."""
    return [None] + [
        math.log(cost / less) / math.log(many / few)
        for (few, less), (many, cost) in pairwise(zip(trials, costs, strict=True))
    ]


def cpu_by_part(measured: Measured) -> dict[str, float]:
    """The driver's CPU seconds in each part. `OTHER` is the time outside all parts."""
    parts = {name: measured.parts[name]["cpu_s"] for name in PARTS if name in measured.parts}
    return {**parts, OTHER: measured.cpu_s - sum(parts.values())}


def cost_row(slots: int, new: Measured, again: Measured, exponent: float | None) -> list[str]:
    """A study's row in the table of costs."""

    def one(part: str) -> str:
        return f"{1000 * new.parts[part]['last_cpu_s']:.0f}" if part in new.parts else ""

    n = new.ended
    return [
        str(slots),
        str(n),
        f"{1000 * new.cpu_s / n:.1f}",
        "" if exponent is None else f"{exponent:.2f}",
        f"{1000 * new.wall_s / n:.0f}",
        f"{new.rss_mb:.0f} (+{new.rss_grown_mb:.0f})",
        *(f"{new.bytes[kind] / 1024 / n:.1f}" for kind in ("journal", "tables", "Ray's state")),
        *(one(part) for part in ("sampler", "view", "tables", "snapshot")),
        f"{1000 * (again.open_cpu_s + again.cpu_s) / n:.1f}",
    ]


COST_COLUMNS = (
    "slots",
    "trials",
    "CPU ms/trial",
    "exponent",
    "wall ms/trial",
    "driver MB",
    "journal KB/trial",
    "tables KB/trial",
    "Ray's state KB/trial",
    "one draw ms",
    "one view ms",
    "one table write ms",
    "one snapshot ms",
    "resume CPU ms/trial",
)


def show(runs: dict[int, list[tuple[Measured, Measured]]], title: str) -> None:
    """Print the measurements by number of slots."""
    rows: list[list[str]] = []
    for slots, studies in runs.items():
        new = [measured for measured, _ in studies]
        growth = exponents([m.ended for m in new], [m.cpu_s for m in new])
        rows += [
            cost_row(slots, *study, exponent)
            for study, exponent in zip(studies, growth, strict=True)
        ]
    machine.show(title, COST_COLUMNS, rows)
    columns = [(slots, measured) for slots, studies in runs.items() for measured, _ in studies]
    machine.show(
        "Driver's CPU time by part, ms/trial (share)",
        ("", *(f"{slots} slots, {measured.ended}" for slots, measured in columns)),
        [[name, *(share(name, measured) for _, measured in columns)] for name in (*PARTS, OTHER)],
    )


def share(part: str, measured: Measured) -> str:
    """A part's CPU time in ms per trial and its share, e.g. ``7.30 (24%)``."""
    cpu_s = cpu_by_part(measured).get(part, 0.0)
    return f"{1000 * cpu_s / measured.ended:.2f} ({100 * cpu_s / measured.cpu_s:.0f}%)"


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    runs: dict[int, list[tuple[Measured, Measured]]] = {slots: [] for slots in arguments.slots}
    for slots in arguments.slots:
        for trials in sorted(arguments.trials):
            with tempfile.TemporaryDirectory() as folder:
                options = Options(
                    folder=folder,
                    slots=slots,
                    trials=trials,
                    epochs=arguments.epochs,
                    sampler=arguments.sampler,
                    scheduler=arguments.scheduler,
                )
                runs[slots].append((run(options), run(options)))
            print(f"{slots} slots, {trials} trials: measured", file=sys.stderr, flush=True)
    show(
        runs,
        f"Studies of up to {arguments.epochs} epochs per trial, sampler {arguments.sampler}, "
        f"scheduler {arguments.scheduler}",
    )
    settings: dict[str, Any] = vars(arguments).copy()
    settings.pop("json")
    results = [
        {"slots": slots, "study": asdict(new), "resumed": asdict(again)}
        for slots, studies in runs.items()
        for new, again in studies
    ]
    machine.write(arguments.json, {"settings": settings, "results": results})


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 10, 50])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="asha")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if min(*arguments.slots, *arguments.trials, arguments.epochs) < 1:
        parser.error("--slots, --trials and --epochs must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
