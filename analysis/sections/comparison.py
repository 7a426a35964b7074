"""The section of a comparison: tables of its arms and their results, and its figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis import comparison_frames as frames
from analysis import paper, places
from analysis.evidence import Compared, Evidence, arm_of, question_of
from analysis.parts import UNKNOWN, Exhibit, Section, Table, known, renamed, single
from analysis.plots import comparison as plots
from analysis.sections.questions import OF_QUESTION, of_any
from study.config.questions import BATCH_SIZE, MODELS, Question
from study.console.text import format_value
from study.results.estimates import OVER_SEEDS, Estimate, show

HIGHEST = 60.0  # inches


# What the paper reports for each question's arms, on the test images.
REPORTED = {
    BATCH_SIZE.name: f"{paper.ACCURACY:.2%}, loss {paper.TEST_LOSS}, "
    f"{paper.SECONDS[512]:.0f} s at 512 and {paper.SECONDS[32]:.0f} s at 32",
    MODELS.name: f"{paper.ACCURACY:.2%} and {paper.RESNET_ACCURACY:.2%}, "
    f"{paper.SECONDS[512]:.0f} s and {paper.RESNET_SECONDS:.0f} s",
}


def make_section(compared: Compared, question: Question | None, prefix: str) -> Section:
    """The section of a comparison.

    Args:
        compared: A comparison with a complete trial.
        question: The question it answers for the paper; None if it answers none.
        prefix: Prefix of the names of its figures and tables. It must be empty if the comparison
            answers a question: claims refer to them by the names in `analysis.places`.
    """
    asked = question_of(compared.config)
    if asked and asked.name in OF_QUESTION:
        made = renamed(OF_QUESTION[asked.name](compared), prefix)
    else:
        made = renamed(of_any(compared), f"{question.name}_" if question else prefix)
    by_arm = frames.by_arm(compared)
    text = [compared.config.title]
    if lost := int(by_arm["lost"].sum()):
        text.append(f"{lost} of {len(compared.results.trials)} trials did not complete.")
    name = places.by_arm(question).name if question else f"{prefix}by_arm"
    tables = [
        _arms(compared, name.replace("by_arm", "arms")),
        _by_arm(compared, by_arm, name, _reported(compared, question)),
    ]
    if question:
        return Section(question.name, question.heading, text, made, tables)
    return Section(f"{prefix}comparison", compared.config.name, text, made, tables)


def _reported(compared: Compared, question: Question | None) -> str:
    if question is None or compared.images != "test":
        return ""
    return f" The paper reports: {REPORTED[question.name]}." if question.name in REPORTED else ""


def _arms(compared: Compared, name: str) -> Table:
    """The settings in which the arms differ, and the number of their trials by status."""
    config, counts = compared.config, frames.statuses(compared)
    settings = frames.arm_settings(compared).set_index("arm")
    words = settings.map(_setting)
    differ = [column for column in words if words[column].nunique() > 1]
    same = {c: words[c].iloc[0] for c in words if c not in differ}
    rest = ", ".join(f"{c} {value}" for c, value in same.items() if value != UNKNOWN)
    return Table(
        name,
        "The settings in which the arms differ, and the number of their trials by status. A dash "
        f"({UNKNOWN}) means the network's own setting, or none. All arms share: {config.dataset}, "
        f"epochs {config.epochs}, {rest}.",
        settings.join(counts).reset_index(),
        words[differ].join(counts.astype(str)).reset_index(),
    )


def _setting(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else format_value(value)


def _by_arm(compared: Compared, table: pd.DataFrame, name: str, reported: str) -> Table:
    """The results of each arm."""
    caption = (
        f"Results after {compared.config.epochs} epochs on the {compared.num_images:,} "
        f"{compared.images} images: means over n seeds with their {OVER_SEEDS}.{reported}"
    )
    shown = pd.DataFrame(
        {
            "arm": table["arm"],
            "n": table["n"].astype(str),
            "accuracy": _with_interval(table, "accuracy", "{:.2%}"),
            "sd between seeds (points)": known(100 * table["accuracy_sd"], "{:.2f}".format),
            "loss (nats)": _with_interval(table, "loss", "{:.4f}"),
            "seconds": _with_interval(table, "seconds", "{:,.0f}"),
        }
    )
    return Table(name, caption, table, shown)


def _with_interval(table: pd.DataFrame, column: str, template: str) -> list[str]:
    rows = zip(
        table[column], table[f"{column}_low"], table[f"{column}_high"], table["n"], strict=True
    )
    return [
        show(Estimate(value, low, high, n, ""), template) if pd.notna(value) else UNKNOWN
        for value, low, high, n in rows
    ]


def differences(evidence: Evidence) -> Exhibit | None:
    """The difference of each arm from its baseline, for all comparisons."""
    found = []
    for kind, compared in evidence.comparisons.items():
        if compared.trials.empty:
            continue
        question = question_of(compared.config)
        settings = question.arms[question.baseline] if question else {}
        baseline = arm_of(compared, **settings)
        rows = frames.paired_differences(compared, baseline)
        found.append(rows.assign(comparison=kind))
    frame = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    if frame.empty:
        return None
    return Exhibit(
        places.DIFFERENCES.name,
        "Difference of each arm from its baseline, paired by seed",
        f"Difference in final accuracy in percentage points, with its {OVER_SEEDS}. Grey zone: "
        f"within {frames.MARGIN} points, which was set in advance to count as equal. The axis is "
        "logarithmic away from zero.",
        frame,
        single(plots.plot_differences, frame, frames.MARGIN),
        (7.5, min(1.3 + 0.55 * len(frame), HIGHEST)),
    )
