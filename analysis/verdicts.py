"""The rules of verdicts, and a claim's entry in the ledger.

The rules were set before the results were seen: a claim of a direction holds where the 95 %
interval lies on its side of no difference, fails where it lies on the other; a number holds where
it lies in the interval in which a single further run falls; equality holds where two one-sided
tests show it within `analysis.comparison_frames.MARGIN` points. Everything else is not
distinguishable. A claim that states no measurable thing is not testable as written; what can be
measured about it stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from analysis.evidence import Compared, folder_name
from analysis.intervals import Estimate, show
from analysis.places import Place

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
NOT_DISTINGUISHABLE = "not distinguishable"
NOT_TESTABLE = "not testable as written"
NO_EVIDENCE = "no evidence yet"
VERDICTS = (REPRODUCED, CONTRADICTED, NOT_DISTINGUISHABLE, NOT_TESTABLE, NO_EVIDENCE)

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """A claim's entry.

    Attributes:
        verdict: One of `VERDICTS`.
        estimate: Ours, in words with its unit.
        value: The number in `estimate`, where there is one.
        low: Lower end of its interval.
        high: Upper end.
        interval: What kind of interval.
        n: Independent replicates behind it.
        why: How the verdict follows, and what else to know.
        trials: The trials used, ``results-folder/trial-id``.
        claim: The claim's number, ``C1`` to ``C21``; the ledger knows it.
        shown_in: The figure or table of the page that shows it.
        command: What fills the gap, where there is no evidence.
    """

    verdict: str
    estimate: str
    why: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    interval: str = ""
    n: int = 0
    trials: tuple[str, ...] = ()
    claim: str = ""
    shown_in: Place | None = None
    command: str = ""


def direction(e: Estimate, none: float = 0.0, *, above: bool = True) -> str:
    """Whether an estimate lies above (or below) that of no difference."""
    if np.isnan(e.low):
        return NOT_DISTINGUISHABLE
    if e.low > none:
        return REPRODUCED if above else CONTRADICTED
    if e.high < none:
        return CONTRADICTED if above else REPRODUCED
    return NOT_DISTINGUISHABLE


def contains(e: Estimate, number: float) -> str:
    """Whether a number lies in an interval."""
    if np.isnan(e.low):
        return NOT_DISTINGUISHABLE
    return REPRODUCED if e.low <= number <= e.high else CONTRADICTED


def finding(
    verdict: str,
    e: Estimate,
    template: str,
    *,
    why: str,
    estimate: str = "",
    trials: tuple[str, ...] = (),
    command: str = "",
) -> Finding:
    """The `Finding` of an estimate; `template` formats it, and `estimate` is put behind it."""
    return Finding(
        verdict=verdict,
        estimate=show(e, template) + (f" {estimate}" if estimate else ""),
        why=why,
        value=e.value,
        low=e.low,
        high=e.high,
        interval=e.kind,
        n=e.n,
        trials=trials,
        command=command,
    )


class NoEvidence(Exception):
    """The results that a claim is judged by are not there."""


def needed(found: T | None) -> T:
    """`found`.

    Raises:
        NoEvidence: It is None.
    """
    if found is None:
        raise NoEvidence
    return found


def used(compared: Compared, *names: str) -> tuple[str, ...]:
    """Trials of some arms (all where none is named), as the ledger names them."""
    trials = compared.trials
    chosen = trials[trials["arm"].isin(names)] if names else trials
    folder = folder_name(compared.results)
    return tuple(f"{folder}/{trial}" for trial in chosen["trial_id"])
