"""What a study is doing, read from its files alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from optuna.trial import FrozenTrial

from study.console.errors import UserError, cannot_be_read
from study.files import require_plain
from study.results.journal import (
    JOURNAL_FILE,
    LOCK_FILE,
    num_planned,
    read_journal,
    trial_status,
)
from study.results.lock import has_driver
from study.results.standing import seconds_left, time_in_all
from study.results.study_file import STUDY_FILE, SessionRecord, StudyFile, resume_command

LAST = 5  # trials that have ended, the latest first


@dataclass(frozen=True)
class StudyStatus:
    """What a study's files say.

    Attributes:
        name: The study's name.
        planned: Trials in all.
        epochs: Epochs per trial, if it is not stopped early.
        counts: Ended trials by status.
        running: Trials that have begun and not ended: they are training or were interrupted.
        ended: The last trials that have ended, the latest first.
        failed: Trials that failed or diverged.
        best: The best complete trial of a search.
        alive: Whether a driver holds the study's lock; None if that cannot be seen from here.
        last_sign: When a file of the study last changed, in seconds since 1970.
        eta_s: Estimated seconds left, if the session is alive and has ended a trial.
        session: The last session.
        time_in_all: How long all sessions took; empty for one session alone.
        resume: The command that continues the study.
        trials_at: Where the trials' folders are.
    """

    name: str
    planned: int
    epochs: int
    counts: Counter[str]
    running: list[FrozenTrial]
    ended: list[FrozenTrial]
    failed: list[FrozenTrial]
    best: FrozenTrial | None
    alive: bool | None
    last_sign: float
    eta_s: float | None
    session: SessionRecord
    time_in_all: str
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
    alive = None if uri else has_driver(folder)
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
    now = time.time()
    times = _epoch_ends(folder) if len(study.sessions) > 1 else []
    return StudyStatus(
        name=config.name,
        planned=planned,
        epochs=config.epochs,
        counts=Counter(trial_status(trial) for trial in ended),
        running=[trial for trial in trials if not trial.state.is_finished()],
        ended=sorted(ended, key=lambda t: _seconds(t.datetime_complete), reverse=True)[:LAST],
        failed=[trial for trial in ended if trial_status(trial) in ("failed", "diverged")],
        best=max(complete, key=lambda trial: trial.value or 0.0, default=None),
        alive=alive,
        last_sign=_last_sign(folder),
        eta_s=_eta(trials, planned, config.epochs, session, now) if alive else None,
        session=session,
        time_in_all=time_in_all(study.sessions, [*times, now] if alive else times),
        resume=resume_command(config, uri or folder, session.address),
        trials_at=f"{study.storage or folder}/ray",
    )


def _last_sign(folder: Path) -> float:
    files = [folder / STUDY_FILE, folder / JOURNAL_FILE]
    return max(file.stat().st_mtime for file in files if file.exists())


def _seconds(moment: datetime | None) -> float:
    """A time of the journal in seconds since 1970; 0 for none, or for one that cannot be right."""
    try:
        return moment.timestamp() if moment else 0.0
    except (OverflowError, ValueError):
        return 0.0


def _epoch_ends(folder: Path) -> list[float]:
    """When each epoch in the tables ended, in seconds since 1970; none if there is no table."""
    from study.results.tables import EPOCH_COLUMNS, in_seconds, read_table

    try:
        frame = read_table(folder / "epochs.parquet", EPOCH_COLUMNS)
    except (UserError, FileNotFoundError):
        return []
    return in_seconds(frame["epoch_ended"]).tolist()


def _eta(
    trials: Sequence[FrozenTrial], planned: int, epochs: int, session: SessionRecord, now: float
) -> float | None:
    """Seconds left. The epochs of a trial that earlier sessions began count for this one."""
    elapsed = now - session.started_at
    ended = [t for t in trials if _seconds(t.datetime_complete) > session.started_at]
    lengths = Counter(len(trial.intermediate_values) for trial in ended)
    running: list[tuple[int, float]] = []
    for trial in (trial for trial in trials if not trial.state.is_finished()):
        epoch, own = len(trial.intermediate_values), 0.0
        started = _seconds(trial.datetime_start)
        if epoch and started > session.started_at:
            own = (now - started) / epoch
        running.append((epoch, own))
    done = sum(n * length for length, n in lengths.items()) + sum(epoch for epoch, _ in running)
    waiting = max(0, planned - len(trials))
    return seconds_left(lengths, running, waiting, epochs, elapsed / max(1, done))
