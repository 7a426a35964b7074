"""Whether the best trials lie at an edge of the searched space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.config.hyperparameters import HYPERPARAMETERS, Hyperparameter
from study.config.search import values_of
from study.console.text import format_value
from study.results.health.card import (
    NOT_APPLICABLE,
    PASS,
    WARN,
    Card,
    search_command,
)
from study.results.tables import StudyResults, search_config
from study.results.trials import complete_trials

# The best sixth of the compared trials are "the best". In simulated searches of 40 trials a larger
# part missed optima beyond the edge (0.90 found), a smaller part had more false alarms (0.07).
# If nothing matters at all, the sampler tpe still gathers trials somewhere, and 30 of 95 simulated
# searches pressed on some edge (4 of 40 with random draws).
TOP = 6
# Fewer have no reliable mean: that of five evenly drawn values is beyond 0.8 in 1 of 120 cases.
FEWEST = 5
# How near to an end the mean has to be, as a share of the range (of its logarithm if it is
# searched on that scale). A mean is used because few trials of a short search lie within, say, 5%
# of an edge, even if the best values are beyond it.
NEAR = 0.2
WIDEN = 0.25  # how far a range is moved outwards, as a share of its (logarithmic) width


def check(results: StudyResults) -> Card:
    """WARN with the command that widens the space if the best trials are near one of its edges."""
    space, trials = search_config(results).space, results.trials
    compared = trials["status"].isin(["complete", "pruned"]).sum()
    best = complete_trials(results.trials).head(max(FEWEST, compared // TOP))
    if len(best) < FEWEST:
        why = f"{len(best)} trials are complete; where the best lie shows from {FEWEST} on."
        return Card("boundary", NOT_APPLICABLE, why)
    pressed, wider = [], {}
    for name, distribution in space.items():
        each, values = HYPERPARAMETERS[name], values_of(distribution)
        if each.type is str or len(values) < 2 or (of_best := best[name].dropna()).empty:
            continue
        mean = positions(of_best.astype(float), distribution).mean()
        is_upper = mean > 0.5
        moved = widened(each, distribution, upper=is_upper)
        if moved and min(mean, 1 - mean) <= NEAR:
            end = max(values) if is_upper else min(values)
            at = f"{(of_best == end).sum()} of {len(of_best)} at {format_value(end)}"
            if each.kind != "choice":
                scale = "log range" if distribution["attributes"]["log"] else "range"
                at = f"on average at {mean:.2f} of its {scale}"
            pressed.append(f"{each.label} ({at})")
            wider[name] = moved
    if not pressed:
        return Card("boundary", PASS, f"The {len(best)} best trials lie inside the space.")
    evidence = f"The {len(best)} best trials press on an edge of {' and '.join(pressed)}"
    why = f"{evidence}: better values may lie beyond."
    return Card("boundary", WARN, why, search_command(results, space=wider))


def positions(values: pd.Series, distribution: dict[str, Any]) -> pd.Series:
    """Where values lie in the searched range, from 0 (its lower end) to 1.

    Each value of a choice has an equal part of the range, and lies in the middle of it. So no
    value of a choice of two is near an end.
    """
    of_it = distribution["attributes"]
    if "choices" in of_it:
        choices = sorted(of_it["choices"])
        return values.map({value: (i + 0.5) / len(choices) for i, value in enumerate(choices)})
    low, high = of_it["low"], of_it["high"]
    if of_it["log"]:
        return np.log(values / low) / np.log(high / low)
    return (values - low) / (high - low)


def widened(each: Hyperparameter, distribution: dict[str, Any], *, upper: bool) -> list[Any]:
    """The values of a choice, or the ends of a range, moved beyond one end.

    Returns:
        A choice without its value at the other end, or a wider range. Empty if the
        hyperparameter has no possible values beyond that end, as gamma above 1.
    """
    values, is_log = sorted(values_of(distribution)), distribution["attributes"].get("log")
    if each.kind == "choice":
        end, inner = (values[-1], values[-2]) if upper else (values[0], values[1])
        beyond = each.type(end * end / inner)
        if beyond in values or not max(each.least, 0) < beyond <= each.most:
            return []
        return [*values[1:], beyond] if upper else [beyond, *values[:-1]]
    low, high = values
    if is_log:
        factor = (high / low) ** WIDEN
        beyond = high * factor if upper else low / factor
    else:
        beyond = high + WIDEN * (high - low) if upper else low - WIDEN * (high - low)
        if beyond <= 0:
            beyond = 0.0 if each.zero else low / 2
    beyond = min(max(beyond, each.least), each.most)
    rounded = float(f"{beyond:.2g}")  # easier to read
    beyond = rounded if rounded > high or rounded < low else beyond
    if low <= beyond <= high:
        return []
    return [low, beyond] if upper else [beyond, high]
