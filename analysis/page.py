"""Puts the page together: its title, its first sentence and its sections, in order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis import comparison_frames as frames
from analysis import places
from analysis.evidence import Evidence, batch_arms, folder_name
from analysis.intervals import POINTS
from analysis.parts import Exhibit, Section, slug
from analysis.sections import (
    answer,
    architecture,
    comparison,
    final,
    mattered,
    predictions,
    search,
)
from analysis.sections.batch_size import loss_by_batch
from study.config.datasets import DATASET_SPECS
from study.config.finalists import ConfirmingConfig
from study.config.questions import BATCH_SIZE, QUESTIONS
from study.results.estimates import Estimate, show
from study.results.tables import StudyResults


def title_of(evidence: Evidence) -> str:
    """The page's heading."""
    searches, compared = evidence.searches, list(evidence.comparisons.values())
    if batch_arms(evidence, 64, 512):
        return "64 against 512: does the batch size matter?"
    if len(compared) == 1 and not searches:
        return compared[0].config.title
    if (search_alone := alone(evidence)) is not None:
        if (runs := final.runs_of(evidence)) is not None:
            return f"Confirmed: {final.configuration(runs)}"
        return answer.title(search_alone)
    results = [*searches, *(c.results for c in compared)]
    images = sorted({DATASET_SPECS[r.study.config.dataset].folder for r in results})
    kinds = (
        (len(compared), "comparison", "comparisons"),
        (len(searches), "search", "searches"),
    )
    counts = [f"{n} {one if n == 1 else more}" for n, one, more in kinds if n]
    return f"{' and '.join(counts)} on {' and '.join(images)}"


def alone(evidence: Evidence) -> StudyResults | None:
    """The search that is all the page is about: there is one, and at most what confirms it."""
    confirms = all(isinstance(c.config, ConfirmingConfig) for c in evidence.comparisons.values())
    return evidence.searches[0] if len(evidence.searches) == 1 and confirms else None


def headline(evidence: Evidence) -> Exhibit | None:
    """The figure at the top: the losses by batch size, or the likely best trial of a search."""
    if (found := evidence.get(BATCH_SIZE)) is not None:
        return loss_by_batch(found)
    if (study := alone(evidence)) is None:
        return None
    runs = final.runs_of(evidence)
    return answer.picture(study) if runs is None else final.picture(runs)


def lead(evidence: Evidence) -> str:
    """The answer in one sentence: of a search, or of the comparison of batch 64 and batch 512."""
    if (study := alone(evidence)) is not None:
        runs = final.runs_of(evidence)
        return answer.sentence(study) if runs is None else final.sentence(runs)
    found = batch_arms(evidence, 64, 512)
    if found is None:
        return ""
    compared, (a, b) = found
    e = frames.points(compared, a, b)
    means = frames.by_arm(compared).set_index("arm")["accuracy"]
    epochs = compared.config.epochs
    ends = (
        f"After {epochs} epochs batch 64 reaches {means[a]:.2%} accuracy on the {compared.images} "
        f"images and batch 512 reaches {means[b]:.2%}"
    )
    interval = "" if np.isnan(e.low) else f"; {e.kind}, n = {e.n}"
    return f"{ends}: {_in_words(e)} ({show(e, POINTS)}{interval})."


def _in_words(e: Estimate) -> str:
    if np.isnan(e.low):
        return "one seed cannot show whether they differ"
    if e.low > 0:
        return "batch 64 is more accurate"
    if e.high < 0:
        return "batch 512 is more accurate"
    return "the two are not distinguishable"


def gaps(evidence: Evidence) -> dict[str, str]:
    """The command that makes each missing comparison, by the heading of its question.

    A page about searches and what confirms them misses none.
    """
    if all(isinstance(c.config, ConfirmingConfig) for c in evidence.comparisons.values()):
        return {}
    return {
        question.heading: question.command
        for question in QUESTIONS.values()
        if question.command and evidence.get(question) is None
    }


def make_sections(evidence: Evidence, images: Mapping[int, np.ndarray]) -> list[Section]:
    """All sections that the results allow.

    Args:
        evidence: All results.
        images: The evaluated images of the batch-size comparison; empty if not available.
    """
    sections = []
    if (section := final.make_section(evidence)) is not None:
        shown = [] if alone(evidence) else section.exhibits  # it is the headline figure
        sections.append(replace(section, exhibits=shown))
    overview = comparison.differences(evidence)
    if overview:
        sections.append(Section("overview", "All differences", exhibits=[overview]))
    taken: set[str] = set()
    for question in QUESTIONS.values():
        if (compared := evidence.get(question)) is not None:
            section = comparison.make_section(compared, question, "")
            # The headline figure is at the top of the page.
            shown = [e for e in section.exhibits if e.name != places.LOSS_BY_BATCH.name]
            sections.append(replace(section, exhibits=shown))
    for kind, compared in evidence.comparisons.items():
        if kind not in QUESTIONS and len(compared.trials):
            prefix = _prefix(compared.config.name, taken)
            sections.append(comparison.make_section(compared, None, prefix))
    if (section := predictions.make_section(evidence, images)) is not None:
        sections.append(section)
    for study in evidence.searches:
        prefix = "" if alone(evidence) else _prefix(folder_name(study), taken)
        sections.append(search.make_section(study, prefix))
        sections.append(mattered.make_section(study, prefix))
    if evidence.judges_claims:
        sections.append(architecture.make_section())
    return sections


def _prefix(name: str, taken: set[str]) -> str:
    """A prefix, unique to `name`, for the names of everything that belongs to it.

    It ends in a dot. The page's own names have no dot.
    """
    base = slug(name)
    prefixes = (f"{base}." if n == 1 else f"{base}-{n}." for n in itertools.count(1))
    prefix = next(p for p in prefixes if p not in taken)
    taken.add(prefix)
    return prefix
