"""Whether early stopping left values of a hyperparameter without any complete trial."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.search import ASHA_GRACE_EPOCHS, values_of
from study.console.text import format_value
from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    search_command,
)
from study.results.tables import StudyResults, search_config

PARTS = 3  # of gamma's range: low, middle and high; more would hold too few trials each


def check(results: StudyResults) -> Card:
    """WARN if every trial of some value was stopped before it could show its final accuracy."""
    config, trials = search_config(results), results.trials
    if not config.stops_early:
        return Card("early stopping", NOT_APPLICABLE, "No trial is stopped early.")
    trials = trials[trials["status"].isin(["complete", "pruned"])]
    if not (trials["status"] == "pruned").any():
        return Card("early stopping", NOT_APPLICABLE, "No trial was stopped early.")
    silenced = []
    for name, distribution in config.space.items():
        for value, group in _groups(trials, name, distribution):
            if len(group) and (group["status"] == "pruned").all():
                first = (group["epochs_run"] <= ASHA_GRACE_EPOCHS).all()
                how = f"{len(group)} stopped{', all at the first rung' if first else ''}"
                silenced.append(f"{HYPERPARAMETERS[name].label} {value} ({how})")
    if not silenced:
        why = "Each batch size, each other choice and each third of gamma has a complete trial."
        return Card("early stopping", PASS, why)
    why = f"No trial ran to the end at {', '.join(silenced)}: how good these get is not known."
    return Card("early stopping", WARN, why, search_command(results, scheduler="none"))


def _groups(
    trials: pd.DataFrame, name: str, distribution: dict[str, Any]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Trials by the value of a choice, or by the part of gamma's range; each with its name.

    Of the ranges gamma alone decides how late a trial learns. A learning rate that is bad in the
    first epochs is mostly bad in the end.
    """
    values = values_of(distribution)
    if HYPERPARAMETERS[name].kind == "choice":
        for value in values:
            yield format_value(value), trials[trials[name] == value]
    elif name == "gamma" and len(values) > 1:
        edges = np.linspace(values[0], values[-1], PARTS + 1)
        part = np.digitize(trials[name], edges[1:-1])
        for i, (low, high) in enumerate(pairwise(edges)):
            yield f"{low:.2g} to {high:.2g}", trials[part == i]
