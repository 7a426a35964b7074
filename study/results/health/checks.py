"""All health checks of a search, and how the terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.results.health import (
    baseline,
    boundary,
    data,
    idle,
    infeasible,
    noise,
    seeds,
    stopping,
    test_set,
    trials,
    versions,
)
from study.results.health.card import FAIL, STATUSES, WARN, Card
from study.results.tables import StudyResults

if TYPE_CHECKING:
    from rich.console import Console

CHECKS = (
    boundary.check,
    infeasible.check,
    noise.check,
    seeds.check,
    baseline.check,
    stopping.check,
    trials.check,
    idle.check,
    test_set.check,
    data.check,
    versions.check,
)


def health_of(results: StudyResults) -> list[Card]:
    """The card of each check, the worst status first."""
    return sorted(
        (check(results) for check in CHECKS), key=lambda card: STATUSES.index(card.status)
    )


def show_health(console: Console, results: StudyResults, *, besides: str) -> None:
    """Print what is wrong, and after it the command that helps; the same command once.

    Args:
        console: Where to.
        results: Of a search.
        besides: A command that is shown elsewhere.
    """
    by_command: dict[str, list[Card]] = {}
    for card in health_of(results):
        if card.status in (FAIL, WARN):
            by_command.setdefault(card.next, []).append(card)
    for command, cards in by_command.items():
        for card in cards:
            console.print(f"{card.status} {card.name}: {card.sentence}")
        if command != besides:
            console.print(f"  {command}", soft_wrap=True)
