"""Whether the best trials differ by more than seeds do."""

from __future__ import annotations

from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    by_seeds_alone,
    finalize_command,
)
from study.results.shrinkage import seed_noise
from study.results.tables import StudyResults
from study.results.trials import complete_trials


def check(results: StudyResults) -> Card:
    """WARN if other trials are so near the best that a new seed could change their order."""
    accuracy = complete_trials(results.trials)["last_eval_accuracy"]
    if len(accuracy) < 2:
        return Card("noise", NOT_APPLICABLE, "There are no two complete trials to compare.")
    seeds = seed_noise(results.trials)
    tellable = by_seeds_alone(seeds)
    near = int((100 * (accuracy.max() - accuracy) <= tellable).sum()) - 1
    source = "as measured here" if seeds.measured else "as of the CNN on MNIST"
    why = (
        f"Of the other {len(accuracy) - 1} complete trials {near} are within {tellable:.2f} points "
        "of the best, which seeds alone explain "
        f"(sd {100 * seeds.sd:.2f} points, {source})."
    )
    if near == 0:
        return Card("noise", PASS, why)
    return Card("noise", WARN, why, finalize_command(results))
