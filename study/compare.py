"""Compare fixed configurations over several seeds: ``python -m study.compare batch-size``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from study.cli import Parser, guarded
from study.config.comparison import ComparisonConfig
from study.config.datasets import DATASET_WORDS
from study.config.questions import QUESTIONS, find_comparison
from study.console.errors import UserError
from study.opening import opened
from study.training_commands import (
    add_place_options,
    add_running_options,
    check_running_options,
    check_unchanged,
    folder_name,
    load_tables,
    run_session,
    runs_on_head,
    show_counts,
    show_next,
)

if TYPE_CHECKING:
    from study.search.session import Outcome, Session

EPILOG = """examples:
  python -m study.compare batch-size --replicates 10
      the small CNN at batch sizes 32, 64 and 512, ten seeds each
  python -m study.compare batch-size --arms 64 512 6000 --epochs 3
      only some of its arms, for three epochs
  python -m study.compare regularization --arms "cnn-*" --replicates 5
      the CNN with and without dropout and batch norm
  python -m study.compare models --protocol paper
      as the paper did: train on all 60,000 images, evaluate on the test images
  python -m study.compare mine.toml
      your own comparison, from a file like this:
          title = "Does the optimizer matter?"
          [defaults]              # for every arm; other settings are the paper's
          batch_size = 64
          [arms.adadelta]
          [arms.sgd]
          optimizer = "sgd"
          lr = 0.05
  python -m study.compare --resume results/NAME --replicates 20
      continue a stopped comparison, or extend a finished one

Ctrl-C stops the comparison cleanly.
To make the report afterwards: python -m analysis.report results/NAME
"""
FIXED_OPTIONS = ("epochs", "dataset", "protocol", "precision", "seed")


def make_parser() -> Parser:
    """The parser of the command line. An option's default of None means not given."""
    lines = "\n".join(
        f"  {name:15}{c.title}\n  {'':15}arms: {', '.join(c.arms)}"
        + (f" (only if asked for: {', '.join(c.optional)})" if c.optional else "")
        for name, c in QUESTIONS.items()
    )
    parser = Parser(
        prog="python -m study.compare",
        description="Train fixed configurations (arms) with several seeds each (replicates) and "
        "record\nlosses, accuracies and the final models' predictions. Replicate k of "
        "every arm has the same\nseed. No trial is stopped early and nothing is selected."
        f"\n\ncomparisons:\n{lines}",
        epilog=EPILOG,
    )
    parser.add_argument(
        "comparison", nargs="?", metavar="NAME", help="one of the above, or a TOML file"
    )
    add = parser.add_argument_group("comparison").add_argument
    add(
        "--replicates",
        type=int,
        metavar="N",
        help=f"seeds of each arm (default {ComparisonConfig.replicates})",
    )
    add("--arms", nargs="+", metavar="A", help="run only these arms (* is a wildcard)")
    epochs = ComparisonConfig.epochs
    add("--epochs", type=int, metavar="N", help=f"epochs per trial (default {epochs})")
    add(
        "--protocol",
        metavar="P",
        help="split (default): train on 50,000 images, evaluate on 10,000 others; paper: train on "
        "all 60,000, evaluate on the test images",
    )
    add("--dataset", metavar="D", help=DATASET_WORDS)
    add(
        "--precision",
        metavar="P",
        help="auto (default: bf16 if the hardware supports it natively), fp32 or bf16",
    )
    add("--seed", type=int, metavar="N", help="root of all random streams (default 1)")
    add_place_options(parser)
    add_running_options(parser)
    return parser


def new_config(args: argparse.Namespace) -> ComparisonConfig:
    """The configuration of a new comparison."""
    if args.comparison is None:
        raise UserError(
            f"NAME is missing; choose one of {', '.join(QUESTIONS)}, or give a file like mine.toml"
        )
    comparison = find_comparison(args.comparison)
    given = {name: getattr(args, name) for name in (*FIXED_OPTIONS, "replicates")}
    return ComparisonConfig(
        name=folder_name(args, Path(args.comparison).stem),
        title=comparison.title,
        arms=comparison.select(args.arms),
        **{name: value for name, value in given.items() if value is not None},
    )


def resumed_config(args: argparse.Namespace, config: ComparisonConfig) -> ComparisonConfig:
    """The configuration of a resumed comparison. Only `replicates` may change, and only grow.

    Raises:
        UserError: An option contradicts the comparison.
    """
    check_unchanged(args, config, FIXED_OPTIONS)
    if args.comparison is not None or args.arms is not None:
        raise UserError(f"--resume: the arms of {args.resume} are fixed; leave NAME and --arms out")
    if args.replicates is None:
        return config
    if args.replicates < config.replicates:
        raise UserError(
            f"--replicates: the comparison in {args.resume} has {config.replicates}; give at "
            "least that many"
        )
    return replace(config, replicates=args.replicates)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = make_parser().parse_args(argv)
    return guarded(lambda: execute(args, argv))


def execute(args: argparse.Namespace, argv: list[str]) -> int:
    """Do what a parsed command line asks for; returns the exit status.

    Args:
        args: The parsed command line.
        argv: Its words.

    Raises:
        UserError: It cannot be done.
    """
    check_running_options(args)
    new = new_config(args) if args.resume is None else None
    if runs_on_head(args):
        from study.cluster.head import run_on_head

        return run_on_head(args, argv, ComparisonConfig, new)
    with opened(args, ComparisonConfig, new) as (storage, config):
        if new is None:
            config = resumed_config(args, config)
        session, outcome = run_session(args, storage, config)
        show_outcome(session, outcome, config)
    return outcome.exit_status


def show_outcome(session: Session, outcome: Outcome, config: ComparisonConfig) -> None:
    """Print each arm's results, the files written and the next commands."""
    results = load_tables(session.storage.folder)
    trials = results.trials
    show_counts(session, outcome, results)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("arm", "n", "accuracy (mean, range)", "loss", "seconds per trial"):
        table.add_column(column, no_wrap=True)
    complete = trials[trials["status"] == "complete"]
    for arm in config.arms:
        rows = complete[complete["arm"] == arm]
        accuracy = rows["last_eval_accuracy"]
        shown = f"{accuracy.mean():.2%} [{accuracy.min():.2%}, {accuracy.max():.2%}]"
        table.add_row(
            arm,
            str(len(rows)),
            shown if len(rows) else "",
            f"{rows['last_eval_loss'].mean():.4f}" if len(rows) else "",
            f"{rows['seconds'].mean():.1f}" if len(rows) else "",
        )
    session.console.print(f"On the {config.evaluated} images, after the last epoch:")
    session.console.print(table)
    show_next(session, outcome, f"--replicates {2 * config.replicates}")


if __name__ == "__main__":
    sys.exit(main())
