"""How many trials gave no result."""

from __future__ import annotations

from typing import Any

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.search import values_of
from study.console.text import command_line
from study.results.health.card import (
    FAIL,
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    search_command,
)
from study.results.tables import StudyResults, search_config
from study.results.trials import complete_trials

SOME = 0.1  # Share of lost trials from which they cost more than a test of the space's edges.
MOST = 0.5  # From here on the result is a choice among the survivors, not a search of the space.


def check(results: StudyResults) -> Card:
    """WARN or FAIL if many trials diverged or failed."""
    ended = results.trials[results.trials["status"] != "interrupted"]
    if ended.empty:
        return Card("infeasible", NOT_APPLICABLE, "No trial has ended yet.")
    diverged, failed = (int((ended["status"] == s).sum()) for s in ("diverged", "failed"))
    share = (diverged + failed) / len(ended)
    status = FAIL if share >= MOST else WARN if share >= SOME else PASS
    why = f"{diverged} of {len(ended)} trials diverged and {failed} failed ({share:.0%})."
    if status == PASS:
        return Card("infeasible", PASS, why)
    if failed > diverged:
        again = command_line("study.run", "--resume", results.path, "--retry-failed")
        return Card("infeasible", status, why, again)
    space = {"lr": lower_rates(results)}
    return Card("infeasible", status, why, search_command(results, space=space))


def lower_rates(results: StudyResults) -> list[Any]:
    """Ends of a range of smaller learning rates, up to the largest that ran to the end.

    If none did, or the largest of all did, the range is a decade lower.
    """
    low, *more = values_of(search_config(results).space["lr"])
    high = more[0] if more else low
    # Rounded, to be read more easily. NA if no trial is complete: both comparisons are then False.
    largest = float(f"{complete_trials(results.trials)['lr'].max():.2g}")
    if low < largest < results.trials["lr"].max():
        return [low, largest]
    ends = dict.fromkeys((max(low / 10, HYPERPARAMETERS["lr"].least), high / 10))
    return sorted(ends)
