"""Whether the search found something better than the paper's configuration."""

from __future__ import annotations

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.search import values_of
from study.config.trial import TrialConfig
from study.results.health.card import (
    FAIL,
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    by_seeds_alone,
    extend_command,
    finalize_command,
)
from study.results.shrinkage import seed_noise
from study.results.tables import StudyResults, search_config
from study.results.trials import complete_trials, have_papers_settings


def check(results: StudyResults) -> Card:
    """PASS if the best trial beats the paper's configuration by more than seeds explain."""
    config, best = search_config(results), complete_trials(results.trials)
    for name, distribution in config.space.items():
        if not (each := HYPERPARAMETERS[name]).applies(TrialConfig.optimizer):
            continue
        values, wanted = values_of(distribution), each.default
        is_choice = each.kind == "choice"
        if not (wanted in values if is_choice else wanted and values[0] <= wanted <= values[-1]):
            why = f"The space leaves out the paper's {each.label}."
            return Card("baseline", NOT_APPLICABLE, why)
    if config.optimizer != TrialConfig.optimizer and "optimizer" not in config.space:
        why = f"The paper's optimizer is {TrialConfig.optimizer}, not {config.optimizer}."
        return Card("baseline", NOT_APPLICABLE, why)
    paper = best[have_papers_settings(best)]
    if paper.empty:
        why = "The paper's configuration is not among the complete trials."
        return Card("baseline", WARN, why, finalize_command(results))
    ours, theirs = best["last_eval_accuracy"].max(), paper["last_eval_accuracy"].max()
    found = f"The best trial has {ours:.2%}, the paper's configuration {theirs:.2%}"
    if ours == theirs:
        why = f"No trial is better than the paper's configuration ({theirs:.2%})."
        return Card("baseline", FAIL, why, extend_command(results, 2 * config.num_samples))
    tellable = by_seeds_alone(seed_noise(results.trials))
    if 100 * (ours - theirs) <= tellable:
        why = f"{found}; seeds alone explain {tellable:.2f} points."
        return Card("baseline", WARN, why, finalize_command(results))
    return Card("baseline", PASS, f"{found}: more than seeds explain ({tellable:.2f} points).")
