"""Stop a whole study on request or after a time budget."""

from __future__ import annotations

import time
from typing import Any

from ray import tune


class StopRequest(tune.Stopper):
    """Stops a whole study on request or when its time is up. Its trials can be resumed.

    Args:
        time_budget_s: Stop after this time; None: never.
    """

    def __init__(self, time_budget_s: float | None = None) -> None:
        self._time_budget_s = time_budget_s
        self._deadline: float | None = None
        self._asked: str | None = None

    def ask(self, why: str) -> None:
        """Make the study stop. This may be called before the first trial."""
        self._asked = why

    def start_clock(self) -> None:
        """Start the time budget now."""
        if self._time_budget_s:
            self._deadline = time.monotonic() + self._time_budget_s

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: no single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether the study should stop."""
        return self.reason() is not None

    def reason(self) -> str | None:
        """Why the study should stop, or None."""
        if self._asked:
            return self._asked
        over = self._deadline is not None and time.monotonic() >= self._deadline
        return "the time budget is used up" if over else None
