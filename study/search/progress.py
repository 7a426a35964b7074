"""The live view of a running study: a table on a terminal, plain lines in a log."""

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
from study.console.text import escape, format_duration, format_params, format_value

LINE_EVERY_S = 30.0  # time between two progress lines if there is no terminal


class StudyProgress:
    """The state of a running study and its display.

    Args:
        console: Where to show it.
        num_samples: Total number of trials.
        epochs: Epochs per trial, if it is not stopped early.
        columns: Names of the parameters that are shown for each trial.
        earlier: Statuses of the trials that ended in earlier sessions.
        best: The best trial of earlier sessions, (id, value, parameters).
        ranked: Whether to show the best trial.
    """

    def __init__(
        self,
        console: Console,
        num_samples: int,
        epochs: int,
        columns: Iterable[str],
        earlier: Iterable[str] = (),
        best: tuple[str, float, dict[str, Any]] | None = None,
        *,
        ranked: bool = True,
    ) -> None:
        self.console = console
        self.num_samples = num_samples
        self.epochs = epochs
        self.columns = tuple(columns)
        self.ranked = ranked
        self.counts = Counter(earlier)
        self.best = best
        self.running: dict[str, tuple[int, float, dict[str, Any]]] = {}
        self.started = time.monotonic()
        self.epochs_done = 0  # in this session
        self._lengths: Counter[int] = Counter()  # epochs of this session's ended trials
        self._pace: dict[str, tuple[float, int]] = {}  # start in this session, epochs since
        self._last_line = self.started
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

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
        self._pace.setdefault(trial_id, (time.monotonic(), 0))

    def epoch_ended(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note that a trial has reported an epoch."""
        self.running[trial_id] = (result["epoch"], result[METRIC], result["params"])
        self.epochs_done += 1
        started, epochs = self._pace.get(trial_id, (self.started, 0))
        self._pace[trial_id] = (started, epochs + 1)
        if not self.console.is_terminal and time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.console.print(self.headline(), soft_wrap=True)

    def trial_ended(self, trial_id: str, status: str, error: str = "") -> None:
        """Note that a trial is complete, pruned, diverged or failed."""
        epoch, value, params = self.running.pop(trial_id, (0, float("nan"), {}))
        self.counts[status] += 1
        self._lengths[epoch] += 1
        self._pace.pop(trial_id, None)
        better = self.best is None or value > self.best[1]
        if self.ranked and status == "complete" and better:
            self.best = (trial_id, value, params)
        if self.console.is_terminal and status != "failed":
            return
        detail = escape(error, keep="") or f"{METRIC} {value:.2%} after epoch {epoch}"
        place = f"{self.done}/{self.num_samples} {trial_id}"
        self.console.print(f"{place} {status}: {detail}  {format_params(params)}", soft_wrap=True)

    @property
    def done(self) -> int:
        """Trials that have ended, in this and earlier sessions."""
        return self.counts.total()

    def eta_seconds(self) -> float | None:
        """Expected seconds left, from this session's pace; None before a trial has ended."""
        if not self._lengths:
            return None
        if self.done >= self.num_samples:
            return 0.0
        elapsed = time.monotonic() - self.started
        ahead = {i: self._epochs_ahead(epoch) for i, (epoch, *_) in self.running.items()}
        waiting = self.num_samples - self.done - len(self.running)
        total = sum(ahead.values()) + waiting * self._epochs_ahead(0)
        at_session_pace = total * elapsed / max(1, self.epochs_done)
        # Near the end few trials run, and the slowest one decides how much time is left.
        return max([at_session_pace, *(ahead[i] * self._seconds_an_epoch(i) for i in ahead)])

    def _epochs_ahead(self, epoch: int) -> float:
        """Mean further epochs of the ended trials that went beyond `epoch`."""
        beyond = {length: n for length, n in self._lengths.items() if length > epoch}
        if not beyond:
            return self.epochs - epoch
        return sum((length - epoch) * n for length, n in beyond.items()) / sum(beyond.values())

    def _seconds_an_epoch(self, trial_id: str) -> float:
        started, epochs = self._pace[trial_id]
        return (time.monotonic() - started) / epochs if epochs else 0.0

    def headline(self) -> str:
        """One line: trials ended, time spent and left, the best trial so far."""
        shown = ["complete", "pruned", "diverged", "failed"]
        counts = ", ".join(f"{self.counts[s]} {s}" for s in shown if self.counts[s])
        eta = self.eta_seconds()
        line = (
            f"{self.done}/{self.num_samples} trials ended"
            + (f" ({counts})" if counts else "")
            + f", {len(self.running)} running, {format_duration(time.monotonic() - self.started)}"
            + (f", about {format_duration(eta)} left" if eta is not None else "")
        )
        return line + (f"; best {self.best[1]:.2%} ({self.best[0]})" if self.best else "")

    def render(self) -> Group:
        """The live view."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("trial", "epoch", "", "accuracy", *self.columns):
            table.add_column(column, no_wrap=True)
        for trial_id, (epoch, value, params) in sorted(self.running.items()):
            table.add_row(
                trial_id,
                f"{epoch}/{self.epochs}",
                ProgressBar(self.epochs, epoch, width=15),
                f"{value:.2%}" if epoch else "",
                *(format_value(params.get(name, "")) for name in self.columns),
            )
        best = "no trial complete yet" if self.ranked else ""
        if self.best:
            trial_id, value, params = self.best
            best = f"best so far {value:.2%}  {trial_id}  {format_params(params)}"
        bar = ProgressBar(self.num_samples, self.done, width=40)
        above = Table.grid()
        for row in (bar, self.headline().partition(";")[0], best):
            above.add_row(row)
        return Group(above, table)
