"""Search for the best hyperparameters: ``python -m study.run --num-samples 40``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from study.cli import Parser, guarded, number
from study.config.datasets import DATASET_WORDS
from study.config.hyperparameters import HYPERPARAMETERS, Hyperparameter
from study.config.search import SearchConfig
from study.config.space import (
    Space,
    default_space,
    describe,
    distribution,
    space_from_json,
    space_to_json,
)
from study.console.errors import UserError
from study.console.text import command_line, format_duration, format_value
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
    import pandas as pd

    from study.results.storage import Storage
    from study.search.session import Outcome, Session

EPILOG = """examples:
  python -m study.run --num-samples 40
      search the small CNN on MNIST with 40 trials
  python -m study.run --model resnet18 --epochs 3 --num-samples 10 --lr 0.1 1
      the modified ResNet18, learning rates from 0.1 to 1
  python -m study.run --batch-size 64 512 --width-mult 1 --sampler qmc --scheduler none
      two batch sizes at one width, evenly spread, without early stopping
  python -m study.run --resume results/NAME --num-samples 80
      continue a stopped study, or extend a finished one to 80 trials

Ctrl-C stops the study cleanly.
To see its progress from another terminal: python -m study.status results/NAME
To make the report afterwards: python -m analysis.report results/NAME
"""

# Options that belong to the study: fixed when it is made, compared on --resume.
STUDY_OPTIONS = (
    "model",
    "dataset",
    "epochs",
    "precision",
    "sampler",
    "scheduler",
    "seed",
)
SHOWN = 5  # best trials, at the end


def make_parser() -> Parser:
    """The parser of the command line. An option's default of None means not given."""
    parser = Parser(
        prog="python -m study.run",
        description="Search for the best batch size, learning rate, gamma and width of one of the "
        "paper's\ntwo networks, with Optuna and Ray Tune. Trials are ranked by validation "
        "accuracy.\nThe test set stays sealed.",
        epilog=EPILOG,
    )
    add = parser.add_argument_group("study").add_argument
    add("--num-samples", type=int, metavar="N", help="trials in all (default 40)")
    add("--model", metavar="M", help="cnn (default) or resnet18")
    add("--dataset", metavar="D", help=DATASET_WORDS)
    add("--epochs", type=int, metavar="N", help=f"epochs per trial (default {SearchConfig.epochs})")
    add(
        "--precision",
        metavar="P",
        help="auto (default: bf16 if the hardware supports it natively), fp32 or bf16",
    )
    add("--sampler", metavar="S", help="tpe (default), qmc, random, gp or cmaes")
    add(
        "--scheduler",
        metavar="S",
        help="asha (default: stops all but the best third after epochs 1, 3 and 9) or none",
    )
    add("--seed", type=int, metavar="N", help="root of all random streams (default 1)")

    add = parser.add_argument_group(
        "space",
        "Give a choice any number of values, and a range its two ends. A single value is "
        "fixed.\nSeveral optimizers share one range of learning rates that covers each one's.",
    ).add_argument
    for each in HYPERPARAMETERS.values():
        kind = {int: (int, "N"), float: (number, "X"), str: (str, "O")}[each.type]
        add(each.flag, type=kind[0], nargs="+", metavar=kind[1], help=help_of(each))
    add(
        "--finalize",
        action="store_true",
        help="confirm the search at its end: see python -m study.finalize --help",
    )
    add_place_options(parser)
    add_running_options(parser)
    return parser


def help_of(each: Hyperparameter) -> str:
    """A hyperparameter and its default, in words."""
    kind = "choice" if each.kind == "choice" else "range"
    if each.default is None and not each.default_of:
        return f"{kind}: {each.words} (default: the network's own)"
    values = {"": each.space or (each.default,), **each.space_of}
    if each.default_of:
        values = {name: (value,) for name, value in each.default_of.items()}
    defaults = [
        (f"with {optimizer} " if optimizer else "") + describe(distribution(each.name, v))
        for optimizer, v in values.items()
    ]
    return f"{kind}: {each.words} (default {'; '.join(defaults)})"


def parse_space(args: argparse.Namespace) -> Space:
    """The hyperparameters given on the command line, as distributions."""
    return {
        name: distribution(name, values, each.flag)
        for name, each in HYPERPARAMETERS.items()
        if (values := getattr(args, name)) is not None
    }


def new_config(args: argparse.Namespace) -> SearchConfig:
    """The configuration of a new study."""
    given = {name: getattr(args, name) for name in (*STUDY_OPTIONS, "num_samples")}
    given = {name: value for name, value in given.items() if value is not None}
    name = folder_name(args, f"{given.get('model', 'cnn')}-{given.get('dataset', 'mnist')}")
    given_space = parse_space(args)
    optimizers = args.optimizer or [SearchConfig.optimizer]
    if len(optimizers) == 1:
        given_space.pop("optimizer", None)
    space = space_to_json({**default_space(*optimizers), **given_space})
    return SearchConfig(name=name, space=space, optimizer=optimizers[0], **given)


def resumed_config(args: argparse.Namespace, config: SearchConfig) -> SearchConfig:
    """The configuration of a resumed search. Only `num_samples` may change, and only grow.

    Raises:
        UserError: An option contradicts the study.
    """
    check_unchanged(args, config, STUDY_OPTIONS)
    fixed = {"optimizer": distribution("optimizer", [config.optimizer])}
    old_space = {**fixed, **space_from_json(config.space)}
    for name, given in parse_space(args).items():
        if given != (old := old_space.get(name)):
            raise UserError(
                f"{HYPERPARAMETERS[name].flag}: the study in {args.resume} was made with "
                f"{describe(old) if old else 'none'}, not {describe(given)}; leave the option out, "
                "or start a new study without --resume"
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
        if args.finalize:
            raise UserError(
                f"--finalize: not through {args.address}; use it on a machine of the cluster, with "
                "--address auto"
            )
        from study.cluster.head import run_on_head

        return run_on_head(args, argv, SearchConfig, new)
    with opened(args, SearchConfig, new) as (storage, config):
        if new is None:
            config = resumed_config(args, config)
        session, outcome = run_session(args, storage, config)
        show_outcome(session, outcome, config)
    if args.finalize and not outcome.stopped and not outcome.exit_status:
        return confirm(args, storage, outcome)
    return outcome.exit_status


def confirm(args: argparse.Namespace, storage: Storage, outcome: Outcome) -> int:
    """Confirm the search that has just ended; returns the exit status."""
    from study import finalize

    left = args.time_budget and max(args.time_budget - outcome.seconds, 1.0)
    options = {
        "--data-dir": args.data_dir,
        "--address": args.address,
        "--gpus-per-trial": args.gpus_per_trial,
        "--max-concurrent": args.max_concurrent,
        "--time-budget": left and f"{left:.0f}s",
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    return finalize.main([storage.uri or str(storage.folder), *given])


def show_outcome(session: Session, outcome: Outcome, config: SearchConfig) -> None:
    """Print the answer, what health checks found, the files written and the next commands."""
    from study.results.finalists import expected_seconds
    from study.results.health.checks import show_health
    from study.results.shrinkage import likely_best, seed_noise, shrink

    results = load_tables(session.storage.folder)
    trials = results.trials
    show_counts(session, outcome, results)
    noise = seed_noise(trials)
    shrunk = shrink(trials, noise.sd)
    if len(shrunk):
        session.console.print("Best complete trials, by validation accuracy:")
        session.console.print(best_table(shrunk.head(SHOWN), trials, list(config.space)))
    session.console.print(likely_best(shrunk))
    command = command_line("study.finalize", session.storage.folder)
    if len(shrunk) > 1:
        session.console.print(noise.words)
        if not outcome.stopped and (seconds := expected_seconds(results)) is not None:
            took = format_duration(seconds)
            session.console.print(f"Confirming it with fresh seeds takes about {took} here.")
    if not outcome.stopped:
        show_health(session.console, results, besides=command)
    commands = [command] if len(shrunk) > 1 else []
    show_next(session, outcome, f"--num-samples {2 * config.num_samples}", commands)


def best_table(shrunk: pd.DataFrame, trials: pd.DataFrame, searched: list[str]) -> Table:
    """The first trials as a table that fits 80 columns.

    Args:
        shrunk: From `study.results.shrinkage.shrink`.
        trials: ``trials`` of the search.
        searched: The hyperparameters to show.
    """
    import pandas as pd

    rows = shrunk.merge(trials, on="trial_id", how="left")
    names = [name for name in HYPERPARAMETERS if name in searched]
    shown = {
        "trial": rows["trial_id"].map(str),
        "accuracy": rows["accuracy"].map("{:.2%}".format),
        "expected": rows["expected"].map("{:.2%}".format, na_action="ignore"),
        "loss": rows["last_eval_loss"].map("{:.4f}".format),
        **{HYPERPARAMETERS[n].label: rows[n].map(format_value, na_action="ignore") for n in names},
        "P(best)": rows["p_best"].map("{:.2f}".format, na_action="ignore"),
    }
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    labels = [HYPERPARAMETERS[name].label for name in names]
    for column in shown:  # if not all fit, the hyperparameters alone are folded
        table.add_column(column, no_wrap=column not in labels, overflow="fold")
    for values in zip(*shown.values(), strict=True):
        table.add_row(*("" if pd.isna(value) else value for value in values))
    return table


if __name__ == "__main__":
    sys.exit(main())
