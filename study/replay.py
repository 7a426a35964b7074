"""Trains a trial again from its record: ``python -m study.replay results/NAME TRIAL``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from study.cli import Parser, guarded, place
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.console.text import format_duration, hint, one_line, shown
from study.data.images import ImageData, load_images
from study.results.closeness import (
    FIRST_STEP,
    RecordedEpoch,
    other_circumstances,
    recorded_epochs,
    tolerance_in_words,
)
from study.results.study_file import resume_command
from study.results.tables import StudyResults
from study.results.trials import trained_config
from study.training_commands import add_data_dir, load_tables

UNRECORDED = "the processor's exact model, the C compiler, OMP_NUM_THREADS"
EPILOG = """examples:
  python -m study.replay results/NAME trial_00012

It trains the epochs that are on record, on one thread, and compares each with the record: every
step's loss, the epoch's losses and its accuracy. The results folder is only read.

exit status:
  0  the same, bit for bit; or within the tolerance, if the code, a version or the processor is
     known to be another
  1  different
  2  bad input
"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m study.replay",
        description="Train a trial of a search or comparison again from its record, and say "
        "epoch by epoch whether it is the same.",
        epilog=EPILOG,
    )
    parser.add_argument("results", type=place, metavar="DIR", help="a folder like results/NAME")
    parser.add_argument("trial", metavar="TRIAL", help="its trial_id, like trial_00012")
    add_data_dir(parser.add_argument)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    results = load_tables(args.results)
    row = find_trial(results, args.trial)
    config = trained_config(results, row)
    try:
        epochs = recorded_epochs(row, results.epochs, results.steps)
    except ValueError as error:
        raise UserError(
            f"{results.path / 'steps.parquet'}: damaged ({args.trial}: {error}); restore it from a "
            "copy"
        ) from None
    console = Terminal(soft_wrap=True)
    with console.status(f"Checking the {config.dataset} files; downloading missing ones …"):
        images = load_images(results.study.config, args.data_dir, record=None)
    with console.status("Loading PyTorch …"):
        replay = Replay(results, row, config, images)
    seconds = row["seconds"]  # not finite if it is lost
    took = f", which took {format_duration(seconds)}" if math.isfinite(seconds) else ""
    console.print(
        f"{args.trial} of {args.results}: {row['status']}; {len(epochs)} of {config.epochs} epochs "
        f"on record{took}; trains them in {replay.trainer.precision} on {replay.device}"
    )
    if replay.others:
        console.print(f"Not as on record: {'; '.join(replay.others)}.")
        console.print(f"Tolerance: {tolerance_in_words(replay.first_step)}.")
    else:
        console.print("Code, versions and processor are as on record: all must be the same bits.")
    return replay.run(epochs, console)


def find_trial(results: StudyResults, trial_id: str) -> dict[str, Any]:
    """A trial's row in ``trials.parquet``.

    Raises:
        UserError: There is no such trial, it has not ended, or it has no epoch.
    """
    rows = {row["trial_id"]: row for row in results.trials.to_dict("records")}
    if trial_id not in rows:
        raise UserError(
            f"TRIAL: {shown(trial_id)}: {results.path} has no such trial{hint(trial_id, rows)}; "
            f"its {len(rows)} trials are listed in trials.parquet"
        )
    row = {str(name): value for name, value in rows[trial_id].items()}
    if row["status"] == "interrupted":
        raise UserError(
            f"TRIAL: {trial_id} has not ended; wait for its end, or continue the study with: "
            f"{resume_command(results.study.config, results.path)}"
        )
    if not row["epochs_run"]:
        why = "" if pd.isna(row["error"]) else f" ({one_line(row['error'])})"
        raise UserError(
            f"TRIAL: {trial_id} {row['status']} before its first epoch had ended{why}; there is "
            "nothing to compare: choose another trial"
        )
    return row


class Replay:
    """One trial, trained again.

    Args:
        results: The study.
        row: The trial's, in ``trials.parquet``.
        config: The trial's.
        images: What it trains on, and what it evaluates.

    Attributes:
        trainer: Trains it.
        device: The name of the processor or GPU.
        others: What is not as on record, and may explain other bits.
        first_step: The tolerance of the first step's loss; None if it is not comparable.
    """

    def __init__(
        self,
        results: StudyResults,
        row: dict[str, Any],
        config: TrialConfig,
        images: tuple[ImageData, ImageData],
    ) -> None:
        import torch  # here, as it takes seconds

        from study.training import device, kernels
        from study.training.trainer import Trainer

        cpu, sessions = torch.device("cpu"), results.study.sessions
        recorded = "unknown processor" if pd.isna(row["device"]) else row["device"]
        ran_on_gpu = recorded != device.device_name(cpu) and any(s.gpus_per_trial for s in sessions)
        device.set_threads()
        self.trainer = Trainer(
            config,
            *images,
            device=device.pick_device() if ran_on_gpu else cpu,
            measure_noise=results.study.config.keeps_predictions,
        )
        on_gpu = self.trainer.device.type == "cuda"
        self.evaluated = row["evaluated"]
        self.device = device.device_name(self.trainer.device)
        self.others = other_circumstances(sessions, devices=(recorded, self.device))
        if pd.isna(row["precision"]):
            self.others.append(f"precision unknown (here {self.trainer.precision})")
        if ran_on_gpu and not on_gpu:
            self.others.append("order and dropout drawn by a GPU (here by the processor)")
        if on_gpu:
            self.others.append("a GPU adds in no fixed order")
        elif problem := kernels.problem():
            self.others.append(f"kernels in C, if it had them (here none: {problem})")
        self.first_step = FIRST_STEP[self.trainer.precision] if ran_on_gpu == on_gpu else None

    def run(self, epochs: Sequence[RecordedEpoch], console: Terminal) -> int:
        """Train what is on record and print how close each epoch comes.

        Returns:
            The exit status: 0 if it is the same, or within the tolerance in other circumstances.
        """
        start, inexact, different = time.monotonic(), "", ""
        for number, recorded in enumerate(epochs, 1):
            record = self.trainer.run_epoch()
            losses = self.trainer.step_losses[-1].numpy()
            verdict = "same bit for bit"
            if why := recorded.first_difference(record, losses):
                beyond = recorded.beyond_tolerance(record, losses, self.first_step)
                inexact = inexact or f"epoch {number}"
                verdict = f"within the tolerance ({why})"
                if beyond or not self.others:
                    verdict = f"different ({beyond or why})"
                    different = different or f"first in epoch {number} ({beyond or why})"
            left = (time.monotonic() - start) / number * (len(epochs) - number)
            console.print(
                f"epoch {number}/{len(epochs)}: {verdict}; {self.evaluated} accuracy "
                f"{record.eval_accuracy:.2%}"
                + (f"; about {format_duration(left)} left" if number < len(epochs) else "")
            )
            if record.diverged:
                break
        if different:
            console.print(f"Different: {different}.")
            if not self.others:
                console.print(f"What the record does not say may explain it: {UNRECORDED}.")
            return 1
        steps = sum(len(epoch.losses) for epoch in epochs)
        console.print(
            f"Within the tolerance; not the same bit for bit from {inexact} on."
            if inexact
            else f"Same bit for bit: {len(epochs)} of {len(epochs)} epochs, "
            + (f"{steps:,} step losses." if steps else "as far as is known: the steps are lost.")
        )
        return 0


if __name__ == "__main__":
    sys.exit(main())
