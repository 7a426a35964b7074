"""Whether the best trials differ by more than seeds do."""

from __future__ import annotations

from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    SEED_SD,
    TELLABLE,
    WARN,
    Card,
    complete_trials,
    finalize_command,
)
from study.results.tables import StudyResults


def check(results: StudyResults) -> Card:
    """WARN if other trials are so near the best that a new seed could change their order."""
    accuracy = complete_trials(results)["last_eval_accuracy"]
    if len(accuracy) < 2:
        return Card("noise", NOT_APPLICABLE, "There are no two complete trials to compare.")
    near = int((100 * (accuracy.max() - accuracy) <= TELLABLE).sum()) - 1
    why = (
        f"Of the other {len(accuracy) - 1} complete trials {near} are within {TELLABLE:.2f} points "
        f"of the best, which seeds alone explain (sd {SEED_SD} points, as of the CNN on MNIST)."
    )
    if near == 0:
        return Card("noise", PASS, why)
    return Card("noise", WARN, why, finalize_command(results))
