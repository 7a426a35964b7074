"""Search for the best hyperparameters: ``python -m study.run --num-samples 40``."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from study.config import HYPERPARAMETERS, StudyConfig, UserError, require_positive
from study.data import default_data_dir
from study.progress import format_duration
from study.space import (
    DEFAULT_SPACE,
    OTHER_LR,
    choices,
    default_space,
    describe,
    interval,
    space_from_json,
    space_to_json,
)

EPILOG = """examples:
  python -m study.run --num-samples 40
      search the small CNN on MNIST with 40 trials
  python -m study.run --model resnet18 --epochs 3 --num-samples 10 --lr 0.1 1
      the modified ResNet18, learning rates from 0.1 to 1
  python -m study.run --batch-size 64 512 --width-mult 1 --sampler qmc --scheduler none
      two batch sizes at one width, evenly spread, without early stopping
  python -m study.run --resume results/NAME --num-samples 80
      continue a stopped study, or extend a finished one to 80 trials

Ctrl-C stops cleanly. Afterwards: python -m analysis.report results/NAME
"""

# Options that belong to the study: fixed when it is made, compared on --resume.
STUDY_OPTIONS = (
    "model", "dataset", "epochs", "optimizer", "precision", "sampler", "scheduler", "seed",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong and where the options are explained."""

    def error(self, message: str) -> Any:
        """Exit with status 2."""
        self.exit(2, f"error: {message} (see python -m study.run --help)\n")


def number(text: str) -> float:
    """A finite number, as argparse type."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def duration(text: str) -> float:
    """``90s``, ``10m``, ``2h`` or plain seconds, as argparse type; returns seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def make_parser() -> Parser:
    """The command line. Study options default to None, to tell what was given."""
    parser = Parser(
        prog="python -m study.run",
        description="Search batch size, learning rate, gamma (its factor after each epoch) and "
        "width of one of the report's two networks, with Optuna and Ray Tune. Selects by "
        "validation accuracy; the test set stays sealed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("study").add_argument
    default = StudyConfig("", {})
    add("--num-samples", type=int, metavar="N", help="trials in all (default 40)")
    add("--model", metavar="M", help="cnn (default) or resnet18")
    add("--dataset", metavar="D", help="mnist (default) or fashion-mnist")
    add("--epochs", type=int, metavar="N", help=f"epochs a trial (default {default.epochs})")
    add("--optimizer", metavar="O", help="adadelta (default), sgd or adamw")
    add("--precision", metavar="P",
        help="auto (default: bf16 where the hardware is fast at it), fp32 or bf16")  # fmt: skip
    add("--sampler", metavar="S", help="tpe (default), qmc, random, gp or cmaes")
    add("--scheduler", metavar="S",
        help="asha (default: the best third goes on after epochs 1, 3, 9) or none")  # fmt: skip
    add("--seed", type=int, metavar="N", help="root of all random streams (default 1)")

    add = parser.add_argument_group(
        "space", "Several batch sizes or widths are a choice; two learning rates or gammas are a "
        "range; a single value fixes it."
    ).add_argument  # fmt: skip
    words = {name: describe(dist) for name, dist in DEFAULT_SPACE.items()}
    others = ", ".join(f"with {name} {describe(dist)}" for name, dist in OTHER_LR.items())
    add("--batch-size", type=int, nargs="+", metavar="N", help=f"default {words['batch_size']}")
    add(
        "--lr",
        type=number,
        nargs="+",
        metavar="X",
        help=f"of the first epoch; default {words['lr']}; {others}",
    )
    add(
        "--gamma",
        type=number,
        nargs="+",
        metavar="X",
        help=f"factor after each epoch; default {words['gamma']}",
    )
    add("--width-mult", type=number, nargs="+", metavar="X",
        help=f"factor on every hidden width; default {words['width_mult']}")  # fmt: skip

    add = parser.add_argument_group("running").add_argument
    add("--resume", type=Path, metavar="DIR", help="continue or extend the study in DIR")
    add("--name", help="folder of the study (default: model, dataset and time)")
    add("--results-dir", type=Path, metavar="DIR", default=Path("results"),
        help="where studies lie (default results)")  # fmt: skip
    add("--data-dir", type=Path, metavar="DIR", default=default_data_dir(),
        help="where the images lie or are put (default %(default)s)")  # fmt: skip
    add("--address", metavar="A", help="Ray cluster to join: auto, HOST:PORT or ray://HOST:PORT")
    add("--gpus-per-trial", type=number, metavar="X",
        help="0.25 packs four trials on a GPU (default: 1 where there are GPUs)")  # fmt: skip
    add(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="most trials at once (default: all that fit)",
    )
    add("--time-budget", type=duration, metavar="T", help="stop cleanly after 90s, 10m, 2h")
    return parser


def parse_space(args: argparse.Namespace) -> dict[str, Any]:
    """The hyperparameters given on the command line, as distributions."""
    space: dict[str, Any] = {}
    for name in HYPERPARAMETERS:
        if (values := getattr(args, name)) is not None:
            make = choices if name in ("batch_size", "width_mult") else interval
            space[name] = make(name, values, "--" + name.replace("_", "-"))
    return space


def new_config(args: argparse.Namespace) -> StudyConfig:
    """The configuration of a new study."""
    given = {name: getattr(args, name) for name in (*STUDY_OPTIONS, "num_samples")}
    given = {name: value for name, value in given.items() if value is not None}
    model, dataset = given.get("model", "cnn"), given.get("dataset", "mnist")
    name = args.name or f"{model}-{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise UserError(f"--name: {name!r}; use letters, digits, '.', '_' and '-'")
    space = {**default_space(given.get("optimizer", "adadelta")), **parse_space(args)}
    return StudyConfig(name=name, space=space_to_json(space), **given)


def resumed_config(args: argparse.Namespace, config: StudyConfig) -> StudyConfig:
    """The configuration of a study to be continued; only `num_samples` may change, upwards.

    Raises:
        UserError: An option contradicts the study.
    """
    for name in STUDY_OPTIONS:
        if (value := getattr(args, name)) not in (None, getattr(config, name)):
            raise UserError(
                f"--{name}: the study in {args.resume} was made with {getattr(config, name)!r}, "
                f"not {value!r}; leave the option out, or start a new study without --resume"
            )
    old_space = space_from_json(config.space)
    for name, distribution in parse_space(args).items():
        if distribution != old_space[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag}: the study in {args.resume} was made with another space "
                f"({describe(old_space[name])}); leave the option out, or start a new study"
            )
    if args.name not in (None, config.name):
        raise UserError(
            f"--name: the study in {args.resume} is named {config.name!r}; leave it out"
        )
    if args.num_samples is None:
        return config
    if args.num_samples < config.num_samples:
        raise UserError(
            f"--num-samples: the study in {args.resume} has {config.num_samples} trials; "
            "give at least that many"
        )
    return replace(config, num_samples=args.num_samples)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = make_parser().parse_args(argv)
    console = Console()
    try:
        return _run(args, argv, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace, argv: list[str], console: Console) -> int:
    for flag in ("num_samples", "max_concurrent"):
        if getattr(args, flag) is not None:
            require_positive("--" + flag.replace("_", "-"), getattr(args, flag), integer=True)
    if args.gpus_per_trial is not None and args.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial: {args.gpus_per_trial:g} is negative; use 0 or above")
    # Imported when the options are known to be good: it takes seconds.
    from study import record, search

    if args.resume is None:
        config = new_config(args)
        folder = args.results_dir / config.name
        record.check_new_folder(folder)
    else:
        folder = args.resume
        config = resumed_config(args, record.load_config(folder))
    if args.address and args.address.startswith("ray://"):
        from study.remote import run_on_head

        return run_on_head(args.address, _arguments_on_head(argv, folder))
    options = search.RunOptions(
        data_dir=args.data_dir,
        address=args.address,
        gpus_per_trial=args.gpus_per_trial,
        max_concurrent=args.max_concurrent,
        time_budget_s=args.time_budget,
    )
    outcome = search.run_study(folder, config, options, console, resume=args.resume is not None)
    show_outcome(folder, config, args.address, outcome, console)
    return 0


def show_outcome(
    folder: Path, config: StudyConfig, address: str | None, outcome: Any, console: Console
) -> None:
    """Print the best trials, the files written and the next commands."""
    from study.results import load_study, rank_trials

    trials = load_study(folder).trials
    counts = trials["status"].value_counts()
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.print(
        f"\n{outcome.ended} of {config.num_samples} trials ended ({summary}) in "
        f"{format_duration(outcome.seconds)}",
        highlight=False,
    )
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    # Short names: the table fits 80 columns.
    columns = ("trial", "status", "accuracy", "loss", "batch", "lr", "gamma", "width", "epochs")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rank_trials(trials).head(5).to_dict("records"):
        table.add_row(
            row["trial_id"],
            row["status"],
            f"{row['last_val_accuracy']:.2%}",
            f"{row['last_val_loss']:.4f}",
            *(f"{row[name]:.4g}" for name in HYPERPARAMETERS),
            str(row["epochs_run"]),
        )
    console.print("Best trials, by validation accuracy after the last epoch:")
    console.print(table)
    console.print(f"Tables: {folder}/trials.parquet, epochs.parquet, steps.parquet",
                  highlight=False, soft_wrap=True)  # fmt: skip
    resume = f"python -m study.run --resume {folder}" + (f" --address {address}" if address else "")
    if outcome.stopped:
        console.print(f"Ended early: {outcome.stopped}. Continue with:")
        console.print(f"  {resume}", highlight=False, soft_wrap=True)
    else:
        more = 2 * config.num_samples
        console.print("Next:", highlight=False)
        for command in (
            f"python -m analysis.report {folder}",
            f"{resume} --num-samples {more}",
        ):
            console.print(f"  {command}", highlight=False, soft_wrap=True)


def _arguments_on_head(argv: list[str], folder: Path) -> list[str]:
    """The command line for the head: without the address, and with an absolute folder."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--address", "--resume", "--results-dir", "--name"):
        where.add_argument(option)
    given, rest = where.parse_known_args(argv)
    folder = folder.absolute()
    if given.resume:
        return [*rest, "--resume", str(folder)]
    return [*rest, "--results-dir", str(folder.parent), "--name", folder.name]


if __name__ == "__main__":
    sys.exit(main())
