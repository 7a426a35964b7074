"""Show what studies are doing, from their files alone: ``python -m study.status``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial
from rich.console import Group
from rich.live import Live

from study.cli import Parser, guarded, place_or_uri
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.console.text import escape, format_duration
from study.files import is_uri, require_uri
from study.results.journal import trial_name, trial_status
from study.results.overview import overview
from study.results.standing import TrialRow, best_in_words, ended_in_words, trial_table
from study.results.status import StudyStatus, read_status
from study.results.study_file import STUDY_FILE, studies_in

REFRESH_S = 5.0
EPILOG = """examples:
  python -m study.status                        list the studies in results/
  python -m study.status results/NAME           show the status once
  python -m study.status results/NAME --watch   refresh until the session ends or Ctrl-C
  python -m study.status s3://BUCKET/FOLDER/NAME

It only reads files. Run it from another terminal, or from any machine that sees the folder.
"""


def render(status: StudyStatus, now: float) -> Group:
    """The status as shown on the terminal, without the commands."""
    host, silent = status.session.host, format_duration(max(0.0, now - status.last_sign))
    if status.finished:
        state = f"finished; last update {silent} ago"
    elif status.alive:
        state = f"running on {host} for {format_duration(now - status.session.started_at)}"
    elif status.alive is None:
        state = f"last update {silent} ago, from {host}"
    else:
        state = f"not running; stopped or killed {silent} ago"
    done = ended_in_words(status.counts, status.planned)
    if status.eta_s is not None and not status.finished:
        done += f", about {format_duration(status.eta_s)} left"
    nodes, slots = status.session.nodes, status.session.concurrent_trials
    where = f"{slots} at once on {nodes} {'node' if nodes == 1 else 'nodes'}"
    lines = [f"{status.name}: {state}", "; ".join(filter(None, [done, where, status.time_in_all]))]
    if (best := status.best) is not None and best.value is not None:
        lines.append(best_in_words(trial_name(best.number), best.value, best.params))
    unfinished = "running" if status.alive is not False else "interrupted"
    rows = [_row(trial, unfinished) for trial in status.running if not status.finished]
    rows += [_row(trial, trial_status(trial)) for trial in status.ended]
    return Group(*(escape(line, keep="") for line in lines), trial_table(rows, status.epochs))


def _row(trial: FrozenTrial, state: str) -> TrialRow:
    epoch, value = max(trial.intermediate_values.items(), default=(0, None))
    return TrialRow(trial_name(trial.number), state, epoch, value, trial.params)


def advice(status: StudyStatus) -> Iterator[str]:
    """What went wrong, and the command that continues the study: lines that must stay whole."""
    for trial in status.failed:
        name, state = trial_name(trial.number), trial_status(trial)
        log = f" (see {status.trials_at}/{name}/error.txt)" if state == "failed" else ""
        yield f"{name} {state}: {trial.user_attrs.get('error', '')}{log}"
    if not status.finished and not status.alive:
        yield "If its driver has died, continue with:" if status.alive is None else "Continue with:"
        yield f"  {status.resume}"


def show(console: Terminal, status: StudyStatus) -> None:
    """Print the status."""
    console.print(render(status, time.time()))
    for line in advice(status):
        console.print(escape(line, keep=""), soft_wrap=True)


def watch(console: Terminal, read: Callable[[], StudyStatus]) -> None:
    """Show the status until the study or a running session ends, or Ctrl-C.

    If no session runs, this waits for one.
    """
    status = read()
    seen = status.alive
    for line in advice(status):
        console.print(escape(line, keep=""), soft_wrap=True)
    try:
        # The view is wrapped to the terminal's width, so it must hold no command.
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not status.finished and (status.alive is not False or not seen):
                waits = "Waits for a session to begin. " if status.alive is False else ""
                hint = f"{waits}Ctrl-C ends this view; it stops no study."
                live.update(Group(render(status, time.time()), hint), refresh=True)
                time.sleep(REFRESH_S)
                status = read()
                seen = seen or status.alive
    except KeyboardInterrupt:
        pass
    show(console, status)


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="python -m study.status",
        description="Show what a search or comparison is doing, whether it is running, was "
        "stopped\nor died, and how to continue it. Without DIR: list the studies in results/.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "results",
        nargs="?",
        type=place_or_uri,
        metavar="DIR",
        help="a folder like results/NAME, or s3://…/NAME; or a folder of studies (default results)",
    )
    parser.add_argument("--watch", action="store_true", help="refresh until the session ends")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    console = Terminal()
    folder = Path(args.results or "results")
    is_study = os.path.lexists(folder / STUDY_FILE)
    if args.results is None or (studies_in(folder) and not is_study):
        if args.watch:
            raise UserError(f"--watch: needs one study; give a folder like {folder}/NAME")
        with console.status(f"Reading the studies in {folder} …"):
            lines = overview(folder)
        console.print(lines)
        return 0
    with tempfile.TemporaryDirectory() as copies:
        read = _reader(args.results, Path(copies))
        if args.watch:
            watch(console, read)
            return 0
        with console.status("Reading the study …"):
            status = read()
        show(console, status)
    return 0


def _reader(results: str, copies: Path) -> Callable[[], StudyStatus]:
    """A function that reads the current status each time it is called."""
    if not is_uri(results):
        return lambda: read_status(Path(results))
    from study.results.storage import Storage

    require_uri("DIR", results)
    storage = Storage(copies, results.rstrip("/"))

    def read() -> StudyStatus:
        storage.require_study()
        storage.pull()
        return read_status(copies, storage.uri)

    return read


if __name__ == "__main__":
    sys.exit(main())
