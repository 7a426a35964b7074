"""The options, session start and closing messages shared by the commands that train."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli import Parser, duration, number, place, place_or_uri
from study.config.study import StudyConfig
from study.console.errors import UserError, require_positive
from study.console.terminal import Terminal
from study.console.text import command_line, format_duration
from study.data.sources import default_data_dir
from study.results.study_file import resume_command

if TYPE_CHECKING:  # all of these take seconds to import
    from study.results.storage import Storage
    from study.results.tables import StudyResults
    from study.search.session import Outcome, RunOptions, Session


def add_data_dir(add: Callable[..., Any]) -> None:
    """The option ``--data-dir``.

    Args:
        add: ``add_argument`` of a parser or of a group of options.
    """
    add(
        "--data-dir",
        type=place,
        metavar="DIR",
        default=default_data_dir(),
        help="folder of the images; missing ones are downloaded there (default %(default)s)",
    )


def add_place_options(parser: Parser) -> None:
    """Where a study is: a new one, or one to be continued."""
    add = parser.add_argument_group("place").add_argument
    add(
        "--resume",
        type=place_or_uri,
        metavar="DIR",
        help="continue or extend the study in DIR, or at s3://…/NAME",
    )
    add("--name", help="name of the results folder (default: made from the options and the time)")
    add(
        "--results-dir",
        type=place,
        metavar="DIR",
        default=Path("results"),
        help="where the results folder is created (default results)",
    )
    add(
        "--storage-path",
        metavar="S3",
        help="s3://BUCKET/FOLDER for checkpoints and a copy of the results; for clusters without "
        "a folder that all nodes share",
    )
    add(
        "--retry-failed",
        action="store_true",
        help="with --resume: run each failed trial again, as a new trial with the same seed",
    )


def add_running_options(parser: Parser) -> None:
    """How a session runs: free to differ between the sessions of one study."""
    add = parser.add_argument_group("running").add_argument
    add_data_dir(add)
    add(
        "--address",
        metavar="A",
        default=os.environ.get("RAY_ADDRESS") or None,
        help="Ray cluster to join: auto, HOST:PORT or ray://HOST:PORT (default: $RAY_ADDRESS if "
        "set, otherwise this machine)",
    )
    add(
        "--gpus-per-trial",
        type=number,
        metavar="X",
        help="GPUs per trial; 0.25 runs four trials on one GPU (default: 1 if there are GPUs)",
    )
    add(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="maximum number of trials at once (default: as many as fit)",
    )
    add(
        "--time-budget",
        type=duration,
        metavar="T",
        help="stop cleanly after this time, e.g. 90s, 10m or 2h (default: no limit)",
    )


def folder_name(args: argparse.Namespace, default: str) -> str:
    """The value of ``--name``, or `default` followed by the time. The configuration checks it."""
    return f"{default}-{datetime.now():%Y%m%d-%H%M%S}" if args.name is None else args.name


def check_unchanged(args: argparse.Namespace, config: StudyConfig, options: Sequence[str]) -> None:
    """Raise `UserError` if one of `options` contradicts the study that is resumed."""
    for name in options:
        if (value := getattr(args, name)) not in (None, getattr(config, name)):
            raise UserError(
                f"--{name}: the study in {args.resume} was made with {getattr(config, name)!r}, "
                f"not {value!r}; leave the option out, or start a new study without --resume"
            )
    if args.name not in (None, config.name):
        raise UserError(
            f"--name: the study in {args.resume} is named {config.name!r}; leave it out"
        )


def check_running_options(args: argparse.Namespace) -> None:
    """Raise `UserError` for an impossible running option, before any slow import."""
    if args.max_concurrent is not None:
        require_positive("--max-concurrent", args.max_concurrent, integer=True)
    if args.gpus_per_trial is not None and args.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial: {args.gpus_per_trial:g} is negative; use 0 or above")
    if args.retry_failed and args.resume is None:
        raise UserError("--retry-failed: needs --resume DIR; a new study has no failed trials")


def runs_on_head(args: argparse.Namespace) -> bool:
    """Whether the cluster is reached by Ray Client, so that the driver must run on its head."""
    return bool(args.address) and args.address.startswith("ray://")


def run_session(
    args: argparse.Namespace, storage: Storage, config: StudyConfig
) -> tuple[Session, Outcome]:
    """Run a new study, or continue an earlier one, as the command line says; returns the end."""
    options = run_options(args)
    from study.search.session import Session

    session = Session(storage, config, options)
    return session, session.run(resume=args.resume is not None)


def run_options(args: argparse.Namespace) -> RunOptions:
    """How the command line says that a session runs."""
    with Terminal().status("Loading Ray and PyTorch …"):  # the first import takes seconds
        from study.search.session import RunOptions

    return RunOptions(
        data_dir=args.data_dir,
        address=args.address,
        gpus_per_trial=args.gpus_per_trial,
        max_concurrent=args.max_concurrent,
        retry_failed=args.retry_failed,
        time_budget_s=args.time_budget,
    )


def load_tables(folder: Path) -> StudyResults:
    """`study.results.tables.load_study`, with a word about it on the terminal."""
    from study.results.tables import load_study

    with Terminal().status("Reading the tables …"):
        return load_study(folder)


def show_counts(session: Session, outcome: Outcome, results: StudyResults) -> None:
    """Print how many trials ended, and how; and how long that took."""
    from study.results.standing import counts_in_words, time_in_all
    from study.results.tables import in_seconds

    counts = counts_in_words(Counter(results.trials["status"].tolist()))
    times = in_seconds(results.epochs["epoch_ended"]).tolist()
    in_all = time_in_all(results.study.sessions, times)
    session.console.print(
        f"\n{outcome.ended} of {outcome.planned} trials ended ({counts}) in "
        f"{format_duration(outcome.seconds)}" + (in_all and f" ({in_all})")
    )


def show_next(session: Session, outcome: Outcome, larger: str, first: Sequence[str] = ()) -> None:
    """Print where the tables are and what to do next.

    Args:
        session: The session that has ended.
        outcome: How it ended.
        larger: The options that extend the study.
        first: Commands to name before the others if the study is finished.
    """
    folder, console = session.storage.folder, session.console
    resume = resume_command(session.config, folder, session.options.address)
    files = ", ".join(sorted(path.name for path in folder.glob("*.parquet")))
    console.print(f"Tables in {folder}: {files}", soft_wrap=True)
    if outcome.stopped:
        console.print(f"Ended early: {outcome.stopped}. Continue with:")
        commands = [resume]
    else:
        console.print("Next:")
        commands = [*first, command_line("analysis.report", folder), f"{resume} {larger}"]
    for command in commands:
        console.print(f"  {command}", soft_wrap=True)
    if outcome.counts["failed"]:
        console.print(
            f"{outcome.counts['failed']} failed. Once the cause is fixed, run them again with:"
        )
        console.print(f"  {resume} --retry-failed", soft_wrap=True)
    if outcome.all_failed:
        console.print(f"All trials failed or diverged: exit status {outcome.exit_status}.")
