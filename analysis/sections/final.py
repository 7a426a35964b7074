"""A search's confirmation: what fresh seeds and the sealed test images say of its choice."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from analysis.evidence import Compared, Evidence, folder_name
from analysis.intervals import PERCENT
from analysis.parts import UNKNOWN, Exhibit, Section, Table, known, single
from analysis.plots import final as plots
from study.config.finalists import CHOSEN, PAPER, FinalConfig, FinalistsConfig
from study.results.confirmation import choice, search_scores
from study.results.estimates import show
from study.results.overtuning import overtuning
from study.results.tables import StudyResults
from study.results.trials import in_words

GAIN = "{:+.2f} points"
NAMES = {CHOSEN: "the chosen configuration", PAPER: "the paper's configuration"}


def runs_of(evidence: Evidence) -> Compared | None:
    """The final runs, if there is one such study with a complete run."""
    return _one(evidence, FinalConfig)


def finalists_of(evidence: Evidence) -> Compared | None:
    """The finalists' runs, if there is one such study with a complete run."""
    return _one(evidence, FinalistsConfig)


def _one(evidence: Evidence, kind: type) -> Compared | None:
    of_kind = [c for c in evidence.comparisons.values() if isinstance(c.config, kind)]
    return of_kind[0] if len(of_kind) == 1 and len(of_kind[0].trials) else None


def configuration(runs: Compared) -> str:
    """The chosen configuration in words, or that it is the paper's."""
    if CHOSEN not in runs.config.arms:
        return "the paper's configuration"
    return in_words(runs.config.arms[CHOSEN])


def sentence(runs: Compared) -> str:
    """The answer, with both intervals."""
    found = runs.final
    arm = CHOSEN if CHOSEN in found.accuracy else PAPER
    if arm not in found.accuracy:
        return "No final run is complete."
    own = found.accuracy[arm]
    which = "that chose nothing"
    if isinstance(runs.config, FinalConfig) and (why := runs.config.reopened):
        which = f"that had been opened before, and were opened again ({why}),"
    text = (
        f"The search chose {configuration(runs)}. On {runs.num_images:,} {runs.images} images "
        f"{which} it reaches {show(own.both, PERCENT)} (n = {own.seeds.n} seeds; 95% "
        "interval for new seeds and new images)"
    )
    if found.gain is None:
        return f"{text}."
    return (
        f"{text}, {show(found.gain.both, GAIN)} against the paper's configuration, paired by seed "
        f"(n = {found.pairs}); for new seeds on the same images {show(found.gain.seeds, GAIN)}."
    )


def picture(runs: Compared) -> Exhibit:
    """The accuracy of each final run, and both intervals of each mean."""
    found, rows = runs.final, []
    for arm, own in found.accuracy.items():
        each = runs.of_arm(arm)
        rows += [
            {
                "arm": NAMES[arm],
                "replicate": replicate,
                "accuracy": accuracy,
                "mean": own.seeds.value,
                "seeds_low": own.seeds.low,
                "seeds_high": own.seeds.high,
                "both_low": own.both.low,
                "both_high": own.both.high,
            }
            for replicate, accuracy in zip(
                each["replicate"], each["last_eval_accuracy"], strict=True
            )
        ]
    frame = pd.DataFrame(rows)
    return Exhibit(
        "final_runs",
        f"The final runs on the {runs.images} images",
        f"One dot per seed, after {runs.config.epochs} epochs on all {runs.num_train:,} training "
        "images. Thick bar: 95% t interval of the mean for new seeds on these images. Thin bar: "
        "95% interval for new seeds and new images (crossed random effects). The two means share "
        "their images and seeds, so judge their difference by the gain in the text.",
        frame,
        single(plots.plot_final_runs, frame),
        (7.5, 2.6),
    )


def make_section(evidence: Evidence) -> Section | None:
    """The confirmation of a search; None without finalists and final runs."""
    runs, finalists = runs_of(evidence), finalists_of(evidence)
    if runs is None and finalists is None:
        return None
    text, exhibits, tables = [], [], []
    if runs is not None:
        text.append(sentence(runs))
        exhibits.append(picture(runs))
        tables.append(_final_table(runs))
        found = runs.final
        text += [
            f"Left out: {count} of the seeds of {NAMES[arm]}, which have no final model."
            for arm, count in found.missing.items()
        ]
        if (least := found.detectable) and not np.isnan(least):
            text.append(
                f"So many pairs detect a gain of {least:.2f} points for new seeds in 80% of cases "
                "(two-sided, 5%)."
            )
    if finalists is not None:
        search = _search_of(finalists, evidence)
        tables.append(_finalists_table(finalists, search))
        if search and (found := overtuning(search.trials, finalists.results.trials)):
            text.append(found.sentence())
    return Section("confirmation", "The confirmation of the search", text, exhibits, tables)


def _final_table(runs: Compared) -> Table:
    found, rows = runs.final, []
    for arm, own in found.accuracy.items():
        rows.append((NAMES[arm], own.seeds.n, *(show(e, PERCENT) for e in (own.seeds, own.both))))
    if found.gain is not None:
        rows.append(
            ("gain", found.pairs, *(show(e, GAIN) for e in (found.gain.seeds, found.gain.both)))
        )
    columns = ["", "n", "95% interval for new seeds", "95% interval for new seeds and images"]
    shown = pd.DataFrame(rows, columns=columns).astype({"n": str})
    frame = shown.rename(columns={"": "what"})
    caption = (
        f"Accuracy on the {runs.num_images:,} {runs.images} images. The gain is paired by seed."
    )
    return Table("final", caption, frame, shown)


def _search_of(finalists: Compared, evidence: Evidence) -> StudyResults | None:
    """The search whose finalists these are, if it is on the page."""
    name = cast("FinalistsConfig", finalists.config).search
    return next((s for s in evidence.searches if folder_name(s) == name), None)


def _finalists_table(finalists: Compared, search: StudyResults | None) -> Table:
    found = choice(finalists.results)
    scores = pd.Series(dtype=float) if search is None else search_scores(search.trials)
    frame = found.table.assign(score=found.table["arm"].map(scores))
    shown = pd.DataFrame(
        {
            "configuration": frame["arm"],
            "fresh seeds": frame["n"].astype(str),
            "diverged": frame["diverged"].astype(str),
            "accuracy": known(frame["accuracy"], PERCENT.format),
            "score in the search": known(frame["score"], PERCENT.format),
        }
    )
    caption = (
        f"The finalists on the {finalists.num_images:,} {finalists.images} images: mean accuracy "
        "over fresh seeds, the best first; a diverged run counts as 0%. Sequential halving gave "
        "more seeds to those that did well, so the means of those with few are rougher. The score "
        f"of the search is one seed, picked for being high; {UNKNOWN} if it was not picked, or "
        "the search is not on this page."
    )
    return Table("finalists", caption, frame, shown)
