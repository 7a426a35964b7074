"""How far a study has come, as the live view and ``study.status`` both show it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from rich.table import Table

from study.config.hyperparameters import HYPERPARAMETERS
from study.console.text import format_duration, format_value
from study.results.history import ENDS
from study.results.study_file import SessionRecord


class TrialRow(NamedTuple):
    """One trial as a table shows it.

    Attributes:
        trial_id: Its id.
        state: What it does, or how it ended.
        epoch: Epochs that it has reported.
        accuracy: After the last of them; None or NaN if there is none.
        params: Its parameters.
    """

    trial_id: str
    state: str
    epoch: int
    accuracy: float | None
    params: Mapping[str, Any]


def trial_table(rows: Iterable[TrialRow], epochs: int) -> Table:
    """Trials as a table. Only the parameters are wrapped if it is too wide, and only at spaces.

    Args:
        rows: The trials.
        epochs: Epochs of a trial that is not stopped early.
    """
    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for trial_id, state, epoch, accuracy, params in rows:
        known = accuracy is not None and math.isfinite(accuracy)
        shown = f"{accuracy:.2%}" if known else ""
        table.add_row(trial_id, state, f"{epoch}/{epochs}", shown, params_in_words(params))
    return table


def params_in_words(params: Mapping[str, Any]) -> str:
    """``batch=512 lr=1 gamma=0.7 width=1``."""
    labels = {name: each.label for name, each in HYPERPARAMETERS.items()}
    return " ".join(f"{labels.get(n, n)}={format_value(value)}" for n, value in params.items())


def best_in_words(trial_id: str, accuracy: float, params: Mapping[str, Any]) -> str:
    """One line about the best trial so far."""
    return f"best so far {accuracy:.2%}  {trial_id}  {params_in_words(params)}"


def ended_in_words(counts: Counter[str], planned: int) -> str:
    """``3/40 trials ended (1 complete, 2 pruned)``.

    Args:
        counts: Ended trials by status.
        planned: Trials in all.
    """
    each = counts_in_words(counts)
    return f"{counts.total()}/{planned} trials ended" + (each and f" ({each})")


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``1 complete, 2 pruned``: trials by status, always in the same order."""
    statuses = [status for status in (*ENDS, "interrupted") if counts.get(status)]
    return ", ".join(f"{counts[status]} {status}" for status in statuses)


def seconds_left(
    lengths: Counter[int],
    running: Sequence[tuple[int, float]],
    waiting: int,
    epochs: int,
    pace: float,
) -> float | None:
    """Expected seconds until all trials have ended; None before this session has ended one.

    Args:
        lengths: How many of the trials that this session ended had how many epochs.
        running: The epochs of each running trial so far, and its own seconds per epoch (0 if
            they are unknown).
        waiting: Trials that have not begun.
        epochs: Epochs of a trial that is not stopped early.
        pace: Seconds per epoch of the whole session, in which several trials run at once.
    """
    if not lengths:
        return None

    def ahead(epoch: int) -> float:
        """Mean further epochs of the ended trials that went beyond `epoch`."""
        beyond = {length: n for length, n in lengths.items() if length > epoch}
        if not beyond:
            return max(0, epochs - epoch)
        return sum((length - epoch) * n for length, n in beyond.items()) / sum(beyond.values())

    at_pace = pace * (sum(ahead(epoch) for epoch, _ in running) + waiting * ahead(0))
    # Near the end few trials run, and the slowest one decides how much time is left.
    return max([at_pace, *(ahead(epoch) * own for epoch, own in running)])


def time_in_all(sessions: Sequence[SessionRecord], times: Sequence[float]) -> str:
    """How long the sessions took together, in words; empty for one session alone.

    A session lasts from its start to the last of `times` before the next one's start.

    Args:
        sessions: The study's sessions.
        times: When epochs ended, in seconds since 1970, and the present if a session is running.
            NaN in results of an earlier format: then the time is not known.
    """
    if len(sessions) < 2:
        return ""
    if not times or any(map(math.isnan, times)):
        return f"{len(sessions)} sessions"
    starts = [*(session.started_at for session in sessions), math.inf]
    seconds = sum(
        max((time for time in times if start <= time < following), default=start) - start
        for start, following in pairwise(starts)
    )
    return f"{format_duration(seconds)} in all, {len(sessions)} sessions"
