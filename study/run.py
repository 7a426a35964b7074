"""Search for the best hyperparameters: ``python -m study.run --num-samples 40``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from study.cli import (
    Parser,
    add_running_options,
    check_unchanged,
    folder_name,
    guarded,
    launch,
    number,
    show_counts,
    show_next,
)
from study.config import HYPERPARAMETERS, SearchConfig, UserError, require_positive
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
from study.text import command_line

EPILOG = """examples:
  python -m study.run --num-samples 40
      search the small CNN on MNIST with 40 trials
  python -m study.run --model resnet18 --epochs 3 --num-samples 10 --lr 0.1 1
      the modified ResNet18, learning rates from 0.1 to 1
  python -m study.run --batch-size 64 512 --width-mult 1 --sampler qmc --scheduler none
      two batch sizes at one width, evenly spread, without early stopping
  python -m study.run --resume results/NAME --num-samples 80
      continue a stopped study, or extend a finished one to 80 trials

Ctrl-C stops cleanly. Meanwhile, from elsewhere: python -m study.status results/NAME
Afterwards: python -m analysis.report results/NAME
"""

# Options that belong to the study: fixed when it is made, compared on --resume.
STUDY_OPTIONS = (
    "model", "dataset", "epochs", "optimizer", "precision", "sampler", "scheduler", "seed",
)  # fmt: skip


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
    add("--num-samples", type=int, metavar="N", help="trials in all (default 40)")
    add("--model", metavar="M", help="cnn (default) or resnet18")
    add("--dataset", metavar="D", help="mnist (default) or fashion-mnist")
    add("--epochs", type=int, metavar="N", help=f"epochs a trial (default {SearchConfig.epochs})")
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
    add_running_options(parser)
    return parser


def parse_space(args: argparse.Namespace) -> dict[str, Any]:
    """The hyperparameters given on the command line, as distributions."""
    space: dict[str, Any] = {}
    for name in HYPERPARAMETERS:
        if (values := getattr(args, name)) is not None:
            make = choices if name in ("batch_size", "width_mult") else interval
            space[name] = make(name, values, "--" + name.replace("_", "-"))
    return space


def make_config(args: argparse.Namespace, earlier: SearchConfig | None) -> SearchConfig:
    """The configuration of a new search, or of one that is continued."""
    return new_config(args) if earlier is None else resumed_config(args, earlier)


def new_config(args: argparse.Namespace) -> SearchConfig:
    """The configuration of a new study."""
    given = {name: getattr(args, name) for name in (*STUDY_OPTIONS, "num_samples")}
    given = {name: value for name, value in given.items() if value is not None}
    name = folder_name(args, f"{given.get('model', 'cnn')}-{given.get('dataset', 'mnist')}")
    space = {**default_space(given.get("optimizer", "adadelta")), **parse_space(args)}
    return SearchConfig(name=name, space=space_to_json(space), **given)


def resumed_config(args: argparse.Namespace, config: SearchConfig) -> SearchConfig:
    """The configuration of a study to be continued; only `num_samples` may change, upwards.

    Raises:
        UserError: An option contradicts the study.
    """
    check_unchanged(args, config, STUDY_OPTIONS)
    old_space = space_from_json(config.space)
    for name, distribution in parse_space(args).items():
        if distribution != old_space[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag}: the study in {args.resume} was made with another space "
                f"({describe(old_space[name])}); leave the option out, or start a new study"
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
    return guarded(lambda: _run(args, argv))


def _run(args: argparse.Namespace, argv: list[str]) -> int:
    if args.num_samples is not None:
        require_positive("--num-samples", args.num_samples, integer=True)
    return launch(args, argv, partial(make_config, args), show_outcome, "study.run")


def show_outcome(
    resume: str, folder: Path, config: SearchConfig, outcome: Any, console: Console
) -> None:
    """Print the best trials, the files written and the next commands."""
    from study.results import load_study, rank_trials

    trials = load_study(folder).trials
    show_counts(outcome, trials, console)
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
    then = (
        command_line("analysis.report", folder),
        f"{resume} --num-samples {2 * config.num_samples}",
    )
    show_next(folder, resume, outcome, then, console)


if __name__ == "__main__":
    sys.exit(main())
