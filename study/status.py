"""Show what a study is doing, from its files alone: ``python -m study.status results/NAME``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Group
from rich.live import Live
from rich.table import Table

from study.cli import Parser, guarded, place_or_uri
from study.console.errors import cannot_be_read
from study.console.terminal import Terminal
from study.console.text import escape, format_duration, format_params
from study.files import is_held, is_uri, require_plain, require_uri
from study.results.journal import (
    JOURNAL_FILE,
    LOCK_FILE,
    num_planned,
    read_journal,
    trial_name,
    trial_status,
)
from study.results.study_file import SessionRecord, StudyFile, resume_command

REFRESH_S = 5.0
EPILOG = """examples:
  python -m study.status results/NAME           show the status once
  python -m study.status results/NAME --watch   refresh until the study ends or Ctrl-C
  python -m study.status s3://BUCKET/FOLDER/NAME

It only reads files. Run it from another terminal, or from any machine that sees the folder.
"""


@dataclass(frozen=True)
class StudyStatus:
    """What a study's files say.

    Attributes:
        name: The study's name.
        planned: Trials in all.
        epochs: Epochs per trial, if it is not stopped early.
        counts: Ended trials by status.
        running: Trials that have begun and not ended: they are training or were interrupted.
        failed: Trials that failed or diverged.
        best: The best complete trial of a search.
        alive: Whether a driver holds the study's lock; None if that cannot be seen from here.
        last_sign: When a file of the study last changed, in seconds since 1970.
        eta_s: Estimated seconds left, if the session is alive and has ended a trial.
        session: The last session.
        sessions: How many sessions there were.
        resume: The command that continues the study.
        trials_at: Where the trials' folders are.
    """

    name: str
    planned: int
    epochs: int
    counts: Counter[str]
    running: list[FrozenTrial]
    failed: list[FrozenTrial]
    best: FrozenTrial | None
    alive: bool | None
    last_sign: float
    eta_s: float | None
    session: SessionRecord
    sessions: int
    resume: str
    trials_at: str

    @property
    def finished(self) -> bool:
        """Whether all trials have ended."""
        return self.counts.total() >= self.planned


def read_status(folder: Path, uri: str | None = None) -> StudyStatus:
    """The status of the study in `folder`.

    Args:
        folder: The folder of the study's records.
        uri: The object store they were copied from, if they are copies.

    Raises:
        UserError: There is no study, or its files are damaged or cannot be read.
    """
    try:
        return _read_status(folder, uri)
    except OSError as error:
        raise cannot_be_read(error.filename or folder, error) from None


def _read_status(folder: Path, uri: str | None) -> StudyStatus:
    study = StudyFile.read(folder)
    config, session = study.config, study.sessions[-1]
    alive = None if uri else is_held(folder / ".lock") or is_held(folder / JOURNAL_FILE)
    if alive is False:  # advise to resume only what --resume would accept
        from study.results.recovery import recover
        from study.results.storage import Storage

        require_plain(folder, besides=LOCK_FILE)
        journal = recover(Storage(folder, study.storage), config).journal
    else:
        journal = read_journal(folder)
    trials = [trial for trial in journal.trials if trial.params]
    ended = [trial for trial in trials if trial.state.is_finished()]
    complete = [t for t in ended if trial_status(t) == "complete"] if config.is_ranked else []
    planned = num_planned(config, journal.trials)
    resume = resume_command(config, uri or folder, session.address)
    return StudyStatus(
        name=config.name,
        planned=planned,
        epochs=config.epochs,
        counts=Counter(trial_status(trial) for trial in ended),
        running=[trial for trial in trials if not trial.state.is_finished()],
        failed=[trial for trial in ended if trial_status(trial) in ("failed", "diverged")],
        best=max(complete, key=lambda trial: trial.value or 0.0, default=None),
        alive=alive,
        last_sign=_last_sign(folder),
        eta_s=_eta(trials, planned, config.epochs, session) if alive else None,
        session=session,
        sessions=len(study.sessions),
        resume=resume,
        trials_at=f"{study.storage or folder}/ray",
    )


def _last_sign(folder: Path) -> float:
    files = [folder / "study.json", folder / JOURNAL_FILE]
    return max(file.stat().st_mtime for file in files if file.exists())


def _eta(
    trials: Sequence[FrozenTrial], planned: int, epochs: int, session: SessionRecord
) -> float | None:
    """Seconds left, estimated from the trials that this session ended: mean epochs and pace."""
    started = session.started_at
    ended = [
        trial
        for trial in trials
        if trial.datetime_complete and trial.datetime_complete.timestamp() > started
    ]
    if not ended:
        return None
    lengths = [len(trial.intermediate_values) for trial in ended]
    running = [len(t.intermediate_values) for t in trials if not t.state.is_finished()]
    pace = (time.time() - started) / max(1, sum(lengths) + sum(running))
    mean = sum(lengths) / len(lengths)
    ahead = sum(max(1, mean - done) for done in running)
    return pace * (ahead + mean * max(0, planned - len(trials)))


def render(status: StudyStatus, now: float) -> Group:
    """The status as printed on the terminal."""
    host, silent = status.session.host, format_duration(max(0.0, now - status.last_sign))
    if status.finished:
        state = f"finished; last update {silent} ago"
    elif status.alive:
        state = f"running on {host} for {format_duration(now - status.session.started_at)}"
    elif status.alive is None:
        state = f"last update {silent} ago, from {host}; if its driver has died: {status.resume}"
    else:
        state = f"not running: stopped or killed {silent} ago; continue with: {status.resume}"
    counts = ", ".join(f"{n} {name}" for name, n in status.counts.most_common())
    done = f"{status.counts.total()}/{status.planned} trials ended" + (counts and f" ({counts})")
    if status.eta_s is not None and not status.finished:
        done += f", about {format_duration(status.eta_s)} left"
    nodes, slots = status.session.nodes, status.session.concurrent_trials
    lines = [
        f"{status.name}: {state}",
        f"{done}; session {status.sessions}, {slots} at once on {nodes} "
        f"{'node' if nodes == 1 else 'nodes'}",
    ]
    if status.best is not None:
        best = status.best
        lines.append(
            f"best {best.value:.2%} ({trial_name(best.number)})  {format_params(best.params)}"
        )
    parts: list[Any] = [escape(line, keep="") for line in lines]
    if status.running and not status.finished:
        parts.append(_running_table(status))
    for trial in status.failed:
        name, error = trial_name(trial.number), trial.user_attrs.get("error", "")
        log = (
            f" (see {status.trials_at}/{name}/error.txt)" if trial_status(trial) == "failed" else ""
        )
        parts.append(escape(f"{name} {trial_status(trial)}: {error}{log}", keep=""))
    return Group(*parts)


def _running_table(status: StudyStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("trial" if status.alive else "interrupted", "epoch", "accuracy", ""):
        table.add_column(column, no_wrap=True)
    for trial in status.running:
        epoch, value = max(trial.intermediate_values.items(), default=(0, None))
        table.add_row(
            trial_name(trial.number),
            f"{epoch}/{status.epochs}",
            "" if value is None else f"{value:.2%}",
            format_params(trial.params),
        )
    return table


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="python -m study.status",
        description="Show what a search or comparison is doing, whether it is running, was "
        "stopped\nor died, and how to continue it.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "results",
        type=place_or_uri,
        metavar="DIR",
        help="a folder like results/NAME, or s3://…/NAME",
    )
    parser.add_argument("--watch", action="store_true", help="refresh until the study ends")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as copies:
        read = _reader(args.results, Path(copies))
        console = Terminal(soft_wrap=True)
        status = read()
        if not args.watch:
            console.print(render(status, time.time()))
            return 0
        with Live(render(status, time.time()), console=console, auto_refresh=False) as live:
            while not status.finished and status.alive is not False:
                time.sleep(REFRESH_S)
                status = read()
                live.update(render(status, time.time()), refresh=True)
    return 0


def _reader(results: str, copies: Path) -> Any:
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
