"""How many seeds the best configuration has run with."""

from __future__ import annotations

from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    finalize_command,
)
from study.results.tables import StudyResults, search_config
from study.results.trials import complete_trials

# The 95% t interval of a mean is 1.2 standard deviations to each side with five seeds, 2.5 with
# three and 9 with two.
ENOUGH = 5


def check(results: StudyResults) -> Card:
    """WARN if the best configuration's score is a single draw, or few."""
    best = complete_trials(results.trials)
    if best.empty:
        return Card("seeds", NOT_APPLICABLE, "No trial is complete.")
    searched = list(search_config(results).space)
    same = best[searched].fillna(-1).eq(best[searched].fillna(-1).iloc[0]).all(axis=1)
    count = best.loc[same, "seed"].nunique()
    if count >= ENOUGH:
        return Card("seeds", PASS, f"The best configuration ran with {count} seeds.")
    if count == 1:
        why = (
            "The best configuration ran with one seed: its accuracy is one draw, "
            "and was picked for being high."
        )
    else:
        why = f"The best configuration ran with {count} seeds; {ENOUGH} give a usable interval."
    return Card("seeds", WARN, why, finalize_command(results))
