"""Whether the best trials differ by more than seeds do."""

from __future__ import annotations

from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    TELLABLE,
    WARN,
    Card,
    finalize_command,
)
from study.results.shrinkage import DEFAULT_SD
from study.results.tables import StudyResults
from study.results.trials import complete_trials


def check(results: StudyResults) -> Card:
    """WARN if other trials are so near the best that a new seed could change their order."""
    accuracy = complete_trials(results.trials)["last_eval_accuracy"]
    if len(accuracy) < 2:
        return Card("noise", NOT_APPLICABLE, "There are no two complete trials to compare.")
    near = int((100 * (accuracy.max() - accuracy) <= TELLABLE).sum()) - 1
    why = (
        f"Of the other {len(accuracy) - 1} complete trials {near} are within {TELLABLE:.2f} points "
        "of the best, which seeds alone explain "
        f"(sd {100 * DEFAULT_SD:.2f} points, as of the CNN on MNIST)."
    )
    if near == 0:
        return Card("noise", PASS, why)
    return Card("noise", WARN, why, finalize_command(results))
