"""Whether the sampler had enough trials to learn from."""

from __future__ import annotations

from study.config.search import num_warm_up
from study.results.health.card import (
    FAIL,
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    extend_command,
)
from study.results.tables import StudyResults, search_config

# Optuna's TPE calls the best tenth of the trials good, and draws near them. With ten trials per
# hyperparameter it has one good one for each.
PER_HYPERPARAMETER = 10


def check(results: StudyResults) -> Card:
    """WARN if the sampler knew few trials, FAIL if it was never asked."""
    config, trials = search_config(results), results.trials
    if config.sampler not in ("tpe", "gp"):
        why = f"The sampler {config.sampler} has no warm-up after which it begins to learn."
        return Card("trials", NOT_APPLICABLE, why)
    searched = config.varied
    if not searched:
        return Card("trials", NOT_APPLICABLE, "Every hyperparameter is fixed.")
    ended, warm_up = int((trials["status"] != "interrupted").sum()), num_warm_up(config.num_samples)
    wanted = max(PER_HYPERPARAMETER * len(searched), warm_up + 1)
    why = (
        f"{ended} trials ended, {min(ended, warm_up)} of them before the sampler began to learn; "
        f"{len(searched)} hyperparameters need {wanted}."
    )
    if ended >= wanted:
        return Card("trials", PASS, why)
    status = FAIL if ended <= warm_up else WARN
    return Card("trials", status, why, extend_command(results, max(wanted, config.num_samples)))
