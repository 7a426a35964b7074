"""What the page contains, in order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis import comparison_frames as frames
from analysis import places
from analysis.evidence import Evidence, batch_arms, folder_name
from analysis.intervals import POINTS, Estimate, show
from analysis.parts import Section, slug
from analysis.sections import architecture, comparison, mattered, predictions, search
from study.config.datasets import DATASET_SPECS
from study.config.questions import QUESTIONS


def title_of(evidence: Evidence) -> str:
    """The page's heading."""
    searches, compared = evidence.searches, list(evidence.comparisons.values())
    if batch_arms(evidence, 64, 512):
        return "64 against 512: does the batch size matter?"
    if len(compared) == 1 and not searches:
        return compared[0].config.title
    if len(searches) == 1 and not compared:
        return searches[0].study.config.name
    results = [*searches, *(c.results for c in compared)]
    images = sorted({DATASET_SPECS[r.study.config.dataset].folder for r in results})
    kinds = (
        (len(compared), "comparison", "comparisons"),
        (len(searches), "search", "searches"),
    )
    counts = [f"{n} {one if n == 1 else more}" for n, one, more in kinds if n]
    return f"{' and '.join(counts)} on {' and '.join(images)}"


def lead(evidence: Evidence) -> str:
    """The answer in one sentence: the final accuracies of batch 64 and batch 512."""
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
    difference = show(e, POINTS)
    return f"{ends}: {_in_words(e)} ({difference}, 95 % t interval, n = {e.n} seeds)."


def _in_words(e: Estimate) -> str:
    if np.isnan(e.low):
        return "one seed says nothing about the difference"
    if e.low > 0:
        return "the smaller batch is better"
    if e.high < 0:
        return "the larger batch is better"
    return "the two are not distinguishable"


def gaps(evidence: Evidence) -> dict[str, str]:
    """The command for each missing comparison, by the heading of its question."""
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
    several = len(evidence.searches) + len(evidence.comparisons) > 1
    for study in evidence.searches:
        prefix = _prefix(folder_name(study), taken) if several else ""
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
