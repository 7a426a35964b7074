"""The verdicts on the paper's claims: their words, their rules, and a claim's entry.

The rules were set before the results were seen:

* A direction is reproduced if the 95% interval is on the claim's side of no difference. It is
  contradicted if the interval is on the other side.
* A number is reproduced if it is inside the 95% prediction interval for one further run. It is
  contradicted if it is outside.
* Equality is reproduced if two one-sided tests show it within
  `analysis.comparison_frames.MARGIN` points. It is contradicted if the 95% interval excludes
  equality.
* Everything else is not distinguishable.
* A claim that states nothing measurable is not testable as written. Its entry gives what can be
  measured instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from analysis.evidence import Compared, folder_name
from analysis.places import Place
from study.results.estimates import Estimate, show

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
        estimate: Our measurement, in words with its unit.
        value: The number in `estimate`, if there is one.
        low: Lower end of its interval.
        high: Upper end.
        interval: What kind of interval.
        n: Number of independent replicates behind it.
        why: Why the verdict follows, and what else the reader should know.
        trials: The trials used, ``results-folder/trial-id``.
        claim: The claim's number, ``C1`` to ``C21``; the ledger sets it.
        shown_in: The figure or table of the page that shows it.
        command: The command that makes the missing results, if any are missing.
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
    """The verdict on the claim that an estimate is above (or below) `none`: no difference."""
    if np.isnan(e.low):
        return NOT_DISTINGUISHABLE
    if e.low > none:
        return REPRODUCED if above else CONTRADICTED
    if e.high < none:
        return CONTRADICTED if above else REPRODUCED
    return NOT_DISTINGUISHABLE


def contains(e: Estimate, number: float) -> str:
    """The verdict on the claim of a number, given the interval for one further run."""
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
    """The `Finding` of an estimate. `template` formats its number; `estimate` follows it."""
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
    """The results that judge a claim are missing."""


def needed(found: T | None) -> T:
    """`found`, if it is not None.

    Raises:
        NoEvidence: It is None.
    """
    if found is None:
        raise NoEvidence
    return found


def used(compared: Compared, *names: str) -> tuple[str, ...]:
    """The trials of the named arms, or of all arms, in the form in which the ledger lists them."""
    trials = compared.trials
    chosen = trials[trials["arm"].isin(names)] if names else trials
    folder = folder_name(compared.results)
    return tuple(f"{folder}/{trial}" for trial in chosen["trial_id"])
