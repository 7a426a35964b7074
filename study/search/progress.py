"""The live view of a running study: trials and time left on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from study.config.study import METRIC
from study.console.text import escape, format_duration
from study.results.standing import (
    TrialRow,
    best_in_words,
    ended_in_words,
    params_in_words,
    seconds_left,
    trial_table,
)

LINE_EVERY_S = 30.0  # time between two progress lines if there is no terminal


class StudyProgress:
    """The state of a running study and its display.

    A trial that has ended gets a line of its own. On a terminal the lines stay above the view,
    which shows the best trial and those that are running.

    Args:
        console: Where to show it.
        num_samples: Total number of trials.
        epochs: Epochs per trial, if it is not stopped early.
        earlier: Statuses of the trials that ended in earlier sessions.
        best: The best trial of earlier sessions, (id, value, parameters).
        ranked: Whether to show the best trial.

    Attributes:
        starting: The parameters of each trial that waits for its worker to start, by id.
    """

    def __init__(
        self,
        console: Console,
        num_samples: int,
        epochs: int,
        earlier: Iterable[str] = (),
        best: tuple[str, float, dict[str, Any]] | None = None,
        *,
        ranked: bool = True,
    ) -> None:
        self.console = console
        self.num_samples = num_samples
        self.epochs = epochs
        self.ranked = ranked
        self.counts = Counter(earlier)
        self.best = best
        self.starting: dict[str, dict[str, Any]] = {}
        self.running: dict[str, tuple[int, float, dict[str, Any]]] = {}
        self.started = time.monotonic()
        self.epochs_done = 0  # in this session
        self._lengths: Counter[int] = Counter()  # epochs of this session's ended trials
        self._pace: dict[str, tuple[float, int]] = {}  # start in this session, epochs since
        self._last_line = self.started
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> StudyProgress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def trial_started(self, trial_id: str, params: dict[str, Any]) -> None:
        """Note that a trial runs, for the first time or again."""
        epoch, value, _ = self.running.get(trial_id, (0, float("nan"), params))
        self.running[trial_id] = (epoch, value, params)
        self.starting.pop(trial_id, None)
        self._pace.setdefault(trial_id, (time.monotonic(), 0))

    def epoch_ended(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note that a trial has reported an epoch."""
        self.running[trial_id] = (result["epoch"], result[METRIC], result["params"])
        self.epochs_done += 1
        started, epochs = self._pace.get(trial_id, (self.started, 0))
        self._pace[trial_id] = (started, epochs + 1)
        if not self.console.is_terminal and time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            best = f"; best {self.best[1]:.2%} ({self.best[0]})" if self.best else ""
            self.console.print(self.headline() + best, soft_wrap=True)

    def trial_ended(self, trial_id: str, status: str, error: str = "") -> None:
        """Note and print that a trial is complete, pruned, diverged or failed."""
        epoch, value, params = self.running.pop(trial_id, (0, float("nan"), {}))
        self.counts[status] += 1
        self._lengths[epoch] += 1
        self._pace.pop(trial_id, None)
        better = self.best is None or value > self.best[1]
        if self.ranked and status == "complete" and better:
            self.best = (trial_id, value, params)
        detail = escape(error, keep="") or f"{value:.2%} after epoch {epoch}"
        line = f"{self.done}/{self.num_samples} {trial_id} {status}: {detail}"
        # An error may name a file, which must not be broken. Other lines are, between two words.
        self.console.print(f"{line}  {params_in_words(params)}", soft_wrap=bool(error))

    @property
    def done(self) -> int:
        """Trials that have ended, in this and earlier sessions."""
        return self.counts.total()

    def eta_seconds(self) -> float | None:
        """Expected seconds left, from this session's pace; None before a trial has ended."""
        now = time.monotonic()
        # Copied, because the view is drawn in a thread of its own.
        lengths, pace = self._lengths.copy(), self._pace.copy()
        paces = {i: (now - start) / epochs for i, (start, epochs) in pace.items() if epochs}
        return seconds_left(
            lengths,
            [(epoch, paces.get(i, 0.0)) for i, (epoch, *_) in self.running.copy().items()],
            self.num_samples - self.done - len(self.running),
            self.epochs,
            (now - self.started) / max(1, self.epochs_done),
        )

    def headline(self) -> str:
        """One line: trials ended, running and starting; time spent and left."""
        eta = self.eta_seconds()
        return (
            f"{ended_in_words(self.counts, self.num_samples)}, {len(self.running)} running"
            + (f", {len(self.starting)} starting" if self.starting else "")
            + f", {format_duration(time.monotonic() - self.started)}"
            + (f", about {format_duration(eta)} left" if eta is not None else "")
        )

    def render(self) -> Group:
        """The live view."""
        running, starting = sorted(self.running.items()), sorted(self.starting.items())
        rows = [TrialRow(trial_id, "running", *facts) for trial_id, facts in running]
        rows += [TrialRow(trial_id, "starting", 0, None, params) for trial_id, params in starting]
        above = Table.grid()
        above.add_row(ProgressBar(self.num_samples, self.done, width=40))
        above.add_row(self.headline())
        if self.ranked:
            above.add_row(best_in_words(*self.best) if self.best else "no trial complete yet")
        above.add_row("Ctrl-C stops; the study can be resumed.")
        return Group(above, trial_table(rows, self.epochs))
