"""What a report says beside its figures: the answer, the sections and their tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import arms, exhibits, frames, paper, places, predicted
from analysis.architecture import TABLE_I, layers
from analysis.evidence import Compared, Evidence, arm_of, batch_arms, folder_name
from analysis.intervals import POINTS, Estimate, show
from analysis.render import Exhibit, require_slug, slug
from study.config import SearchConfig
from study.hyperparameters import HYPERPARAMETERS
from study.questions import BATCH_SIZE, MODELS, QUESTIONS, Question
from study.results import StudyResults, rank_trials

BEST_SHOWN = 10


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: Of its CSV file.
        caption: What it holds.
        frame: The numbers.
        shown: The same as text, as the page shows it.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame

    def __post_init__(self) -> None:
        require_slug(self.name)


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: Its place in the page.
        title: Its heading.
        text: Paragraphs.
        exhibits: Its figures.
        tables: Its tables.
    """

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_slug(self.name)


# By question, what the paper says of its arms on the test images.
REPORTED = {
    BATCH_SIZE.name: f"{paper.ACCURACY:.2%}, loss {paper.TEST_LOSS}, "
    f"{paper.SECONDS[512]:.0f} s at 512 and {paper.SECONDS[32]:.0f} s at 32",
    MODELS.name: f"{paper.ACCURACY:.2%} and {paper.RESNET_ACCURACY:.2%}, "
    f"{paper.SECONDS[512]:.0f} s and {paper.RESNET_SECONDS:.0f} s",
}


def lead(evidence: Evidence) -> str:
    """The answer in one sentence: what batch 64 and batch 512 end at."""
    found = batch_arms(evidence, 64, 512)
    if found is None:
        return ""
    compared, (a, b) = found
    e = arms.points(compared, a, b)
    means = arms.by_arm(compared).set_index("arm")["accuracy"]
    epochs = compared.config.epochs
    ends = (
        f"After {epochs} epochs batch 64 reaches {means[a]:.2%} of the {compared.images} images "
        f"and batch 512 {means[b]:.2%}"
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
    return "no difference can be shown"


def gaps(evidence: Evidence) -> dict[str, str]:
    """By title, the command for each comparison that is not there."""
    return {
        question.heading: question.command
        for question in QUESTIONS.values()
        if question.command and evidence.get(question) is None
    }


def make_sections(evidence: Evidence, images: Mapping[int, np.ndarray]) -> list[Section]:
    """All sections that the results allow.

    Args:
        evidence: What there is.
        images: The evaluated images of the batch-size comparison; empty where not at hand.
    """
    sections = []
    overview = exhibits.differences(evidence)
    if overview:
        sections.append(Section("overview", "All differences", exhibits=[overview]))
    taken: set[str] = set()
    for question in QUESTIONS.values():
        if (compared := evidence.get(question)) is not None:
            sections.append(_comparison(compared, question, f"{question.name}_"))
    for kind, compared in evidence.comparisons.items():
        if kind not in QUESTIONS and len(compared.trials):
            prefix = _prefix(compared.config.name, taken)
            sections.append(_comparison(compared, None, prefix))
    if (predictions := _predictions(evidence, images)) is not None:
        sections.append(predictions)
    several = len(evidence.searches) + len(evidence.comparisons) > 1
    for search in evidence.searches:
        prefix = _prefix(folder_name(search), taken) if several else ""
        sections.append(_search(search, prefix))
    if evidence.comparisons:
        sections.append(_architecture())
    return sections


def _prefix(name: str, taken: set[str]) -> str:
    """What the names of all that belongs to `name` begin with, as those of no other do.

    The names that the page itself gives have no dot.
    """
    base = slug(name)
    prefixes = (f"{base}." if n == 1 else f"{base}-{n}." for n in itertools.count(1))
    prefix = next(p for p in prefixes if p not in taken)
    taken.add(prefix)
    return prefix


def _comparison(compared: Compared, question: Question | None, prefix: str) -> Section:
    """The section of a comparison.

    Args:
        compared: With a complete trial.
        question: Which it answers; None if it is not a built-in one.
        prefix: Of the names of what every comparison shows.
    """
    own = exhibits.OF_QUESTION.get(question.name) if question else None
    made = list(own(compared)) if own else _renamed(exhibits.of_any(compared), prefix)
    table = arms.by_arm(compared)
    lost = int(table["lost"].sum())
    text = [compared.config.title]
    if lost:
        every = len(compared.results.trials)
        text.append(f"Of {every} trials {lost} did not complete; see the table's last column.")
    caption = (
        f"After {compared.config.epochs} epochs, on the {compared.num_images:,} "
        f"{compared.images} images: means with {exhibits.RESULT}."
    )
    if question and question.name in REPORTED and compared.images == "test":
        caption += f" The report: {REPORTED[question.name]}."
    shown = pd.DataFrame(
        {
            "arm": table["arm"],
            "n": table["n"].astype(str),
            "accuracy": _with_interval(table, "accuracy", "{:.2%}"),
            "between seeds (sd)": [_text("{:.3%}", v) for v in table["accuracy_sd"]],
            "loss (nats)": _with_interval(table, "loss", "{:.4f}"),
            "seconds": _with_interval(table, "seconds", "{:.0f}"),
            "not complete": table["lost"].astype(str),
        }
    )
    name = places.by_arm(question).name if question else f"{prefix}by_arm"
    tables = [Table(name, caption, table, shown)]
    if question:
        return Section(question.name, question.heading, text, made, tables)
    return Section(f"{prefix}comparison", compared.config.name, text, made, tables)


def _renamed(made: Iterable[Exhibit], prefix: str) -> list[Exhibit]:
    return [replace(exhibit, name=prefix + exhibit.name) for exhibit in made]


def _with_interval(table: pd.DataFrame, column: str, template: str) -> list[str]:
    rows = zip(
        table[column], table[f"{column}_low"], table[f"{column}_high"], table["n"], strict=True
    )
    return [
        "" if pd.isna(value) else show(Estimate(value, low, high, n, ""), template)
        for value, low, high, n in rows
    ]


def _text(template: str, value: Any) -> str:
    return "" if pd.isna(value) else template.format(value)


def _predictions(evidence: Evidence, images: Mapping[int, np.ndarray]) -> Section | None:
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None or found[0].predictions_of(found[1][0]).empty:
        return None
    compared, (arm,) = found
    made = list(exhibits.of_predictions(compared, arm, images))
    text = [] if images else ["The images themselves are not at hand; see --data-dir."]
    tables = []
    if small := arm_of(compared, batch_size=64):
        tables.append(_mcnemar(compared, small, arm))
    return Section("predictions", "What the CNN gets wrong", text, made, tables)


def _mcnemar(compared: Compared, a: str, b: str) -> Table:
    table = predicted.mcnemar_by_seed(compared, a, b)
    table = table.rename(columns={"only_a": f"only_{a}", "only_b": f"only_{b}"})
    shown = pd.DataFrame(
        {
            "seed": table["replicate"].astype(str),
            f"right only at {a}": table[f"only_{a}"].astype(str),
            f"right only at {b}": table[f"only_{b}"].astype(str),
            "p": [f"{p:.2g}" for p in table["p"]],
        }
    )
    below = int((table["p"] < 0.05).sum())
    caption = (
        f"Images that only one of the two models of a seed gets right, and the exact McNemar test: "
        f"p below 0.05 for {below} of {len(table)} seeds, uncorrected."
    )
    return Table("mcnemar", caption, table, shown)


def _architecture() -> Section:
    tables = []
    for model, name in (("cnn", "The CNN"), ("resnet18", "The modified ResNet18")):
        table = layers(model)
        total = {
            "layer": "all", "kind": "", "output": "",
            "parameters": table["parameters"].sum(),
            "multiply_adds": table["multiply_adds"].sum(),
        }  # fmt: skip
        table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
        shown = table.assign(
            **{c: table[c].map("{:,}".format) for c in ("parameters", "multiply_adds")}
        ).rename(columns={"multiply_adds": "multiply-adds"})
        tables.append(Table(places.layers(model).name, f"{name}, one image.", table, shown))
    printed = pd.DataFrame(TABLE_I, columns=["layer", "Table I", "the code of Appendix C"])
    tables.append(Table("table_1", "Table I against the code.", printed, printed))
    return Section(
        "architecture",
        "The networks",
        [
            "Counted in the networks as they are trained. Equations 1 to 12 are checked against "
            "automatic differentiation by the tests: the gradient as printed in equations 11 and "
            "12 lacks the factor x and keeps the sum over classes, and fails; the correct one "
            "passes."
        ],
        tables=tables,
    )


def _search(study: StudyResults, prefix: str) -> Section:
    config, trials = _search_config(study), study.trials
    n = study.study.num_evaluated
    counts = ", ".join(f"{v} {k}" for k, v in trials["status"].value_counts().items())
    text = [
        f"{config.model} on {config.dataset}: {len(trials)} of {config.num_samples} "
        f"trials ({counts}), up to {config.epochs} epochs each, "
        f"{trials['seconds'].sum() / 3600:.2f} trial-hours of training. Sampler "
        f"{config.sampler}, scheduler {config.scheduler}, optimizer {config.optimizer}."
    ]
    ranked = rank_trials(trials[trials["last_eval_accuracy"].notna()])
    if ranked.empty:
        text.append("No trial has a finite result yet.")
    else:
        best = ranked.iloc[0]
        others = _hyperparameters(config, ranked.head(1))
        named = ("lr", "gamma", "width")
        more = "".join(f", {h} {v[0]}" for h, v in others.items() if v[0] and h not in named)
        text.append(
            f"Best: {best['last_eval_accuracy']:.2%} validation accuracy with batch size "
            f"{best['batch_size']}, learning rate {best['lr']:.4g}, gamma {best['gamma']:.4g}, "
            f"width x {best['width_mult']:.4g}{more} ({best['trial_id']}, {best['status']}). It "
            f"was picked as the best of {len(trials)} on the same {n:,} images that measured it, "
            "with one seed, so expect a little less on new ones. The test set was not opened."
        )
    made = _renamed(exhibits.of_search(study), prefix)
    tables = list(_search_tables(study, n, prefix))
    return Section(f"{prefix}search", f"Search: {config.name}", text, made, tables)


def _search_config(study: StudyResults) -> SearchConfig:
    config = study.study.config
    assert isinstance(config, SearchConfig)
    return config


def _hyperparameters(config: SearchConfig, rows: pd.DataFrame) -> dict[str, list[str]]:
    """What a search varies besides the batch size, by header, as text."""
    return {
        each.label: [
            "" if pd.isna(value) else value if isinstance(value, str) else f"{value:.4g}"
            for value in rows[name]
        ]
        for name, each in HYPERPARAMETERS.items()
        if name in config.space and name != "batch_size"
    }


def _search_tables(study: StudyResults, n: int, prefix: str) -> Iterable[Table]:
    trials, config = study.trials, _search_config(study)
    others = [name for name in config.space if name != "batch_size"]
    summary = frames.summary_by_batch_size(trials, n, others)
    shown = pd.DataFrame(
        {
            "batch size": summary["batch_size"].astype(str),
            **{c: summary[c].astype(str) for c in ("trials", "complete", "pruned")},
            "lost": (summary["diverged"] + summary["failed"]).astype(str),
            "best accuracy": [_text("{:.2%}", v) for v in summary["accuracy"]],
            "95 % interval": [
                "" if pd.isna(low) else f"{low:.2%} to {high:.2%}"
                for low, high in zip(summary["low"], summary["high"], strict=True)
            ],
            "loss": [_text("{:.4f}", v) for v in summary["loss"]],
            **_hyperparameters(config, summary),
            "trial": summary["best_trial"].fillna(""),
        }
    )
    yield Table(
        f"{prefix}by_batch_size",
        f"By batch size. Wilson intervals, n = {n:,} validation images, for the one trained model. "
        "Batch sizes got unequal numbers of trials and of tuning, and each best is one seed: "
        "overlapping intervals mean that this study cannot tell the batch sizes apart; separate "
        "ones are no proof of the opposite.",
        summary,
        shown,
    )
    ranked = rank_trials(trials[trials["last_eval_accuracy"].notna()]).head(BEST_SHOWN)
    if len(ranked):
        yield Table(
            f"{prefix}best_trials",
            f"Best trials, by validation accuracy after the last epoch (n = {n:,}), complete ones "
            "first.",
            ranked,
            pd.DataFrame(
                {
                    "trial": ranked["trial_id"],
                    "status": ranked["status"],
                    "accuracy": ranked["last_eval_accuracy"].map("{:.2%}".format),
                    "loss": ranked["last_eval_loss"].map("{:.4f}".format),
                    "batch size": ranked["batch_size"].astype(str),
                    **_hyperparameters(config, ranked),
                    "epochs": ranked["epochs_run"].astype(str),
                    "seconds": ranked["seconds"].map("{:.0f}".format),
                }
            ),
        )
    lost = trials[trials["status"].isin(["diverged", "failed"])]
    if len(lost):
        yield Table(
            f"{prefix}lost_trials",
            "Trials that diverged or failed.",
            lost,
            pd.DataFrame(
                {
                    "trial": lost["trial_id"],
                    "status": lost["status"],
                    "batch size": lost["batch_size"].astype(str),
                    **_hyperparameters(config, lost),
                    "reason": lost["error"].fillna(""),
                }
            ),
        )


def sources(evidence: Evidence) -> Table:
    """Where every number comes from: a row a results folder."""
    rows = []
    loaded = [*evidence.searches, *(c.results for c in evidence.comparisons.values())]
    for results in loaded:
        study, trials = results.study, results.trials
        session = study.sessions[-1]
        git = session.git
        rows.append(
            {
                "results": folder_name(results),
                "trials": len(trials),
                "made by": f"python {session.command}".strip(),
                "data": f"{study.config.dataset}: {study.num_train:,} trained, "
                f"{study.num_evaluated:,} {study.evaluated} evaluated",
                "device": ", ".join(sorted(trials["device"].dropna().unique())),
                "precision": ", ".join(sorted(trials["precision"].dropna().unique())),
                "seed": study.config.seed,
                "versions": ", ".join(f"{k} {v}" for k, v in session.versions.items() if v)
                + f", Python {session.python}",
                "commit": f"{git['commit'][:10]}{' (changed)' if git['dirty'] else ''}"
                if git
                else "",
                "started": session.started,
            }
        )
    frame = pd.DataFrame(rows)
    return Table("sources", "The results behind this page.", frame, frame.astype(str))
