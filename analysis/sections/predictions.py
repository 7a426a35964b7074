"""What the paper's CNN gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import paper, places, predicted
from analysis.evidence import Compared, Evidence, arm_of, batch_arms
from analysis.intervals import mean_interval, show
from analysis.parts import Exhibit, Section, Table, single
from analysis.plots import predictions as plots
from analysis.sections.common import RESULT

GALLERY = 8  # images in a row


def make_section(evidence: Evidence, images: Mapping[int, np.ndarray]) -> Section | None:
    """The section, if the predictions of the paper's configuration were kept.

    Args:
        evidence: What there is.
        images: The evaluated images by index; empty if they are not at hand.
    """
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None or found[0].predictions_of(found[1][0]).empty:
        return None
    compared, (arm,) = found
    made = list(of_predictions(compared, arm, images))
    text = [] if images else ["The images themselves are not at hand; see --data-dir."]
    tables = []
    if small := arm_of(compared, batch_size=64):
        tables.append(_mcnemar(compared, small, arm))
    return Section("predictions", "What the CNN gets wrong", text, made, tables)


def of_predictions(
    compared: Compared, arm: str, images: Mapping[int, np.ndarray]
) -> Iterator[Exhibit]:
    """What the final models of an arm predicted.

    Args:
        compared: With its predictions.
        arm: Which.
        images: The evaluated images by index, uint8 (28, 28); empty where they are not at hand.
    """
    kept = compared.predictions_of(arm)
    rows = predicted.confidences(kept)
    models = f"{rows['trial_id'].nunique()} models of batch {arm}"
    trials = compared.of_arm(arm)["trial_id"]
    first = rows[rows["trial_id"] == trials[trials.isin(rows["trial_id"])].iloc[0]]
    titles = {
        "confident": "The errors the model was surest of",
        "borderline": "Errors with a confidence near one half",
        "correct": "Right answers, from the least to the most certain",
    }
    for which, title in titles.items():
        chosen = predicted.gallery(first, which, GALLERY)
        if len(chosen) and set(chosen["index"]) <= set(images):
            yield _gallery(which, title, chosen, images, compared.images)
    table = predicted.reliability(rows)
    each = compared.calibration[compared.calibration["arm"] == arm]
    ece, temperature = mean_interval(each["ece"]), mean_interval(each["temperature"])
    yield Exhibit(
        places.RELIABILITY.name,
        "Is the model as sure as it is right?",
        f"Predictions of {models} in {predicted.BINS} equally wide bins of confidence; bars: 95 % "
        "Wilson intervals, too narrow as the models share their images; numbers: predictions. "
        f"Expected calibration error {show(ece, '{:.2%}')}, temperature of least loss "
        f"{show(temperature, '{:.2f}')} ({RESULT}).",
        table,
        single(plots.plot_reliability, table),
        (5.5, 5.0),
    )
    bins = predicted.confidence_bins(rows)
    yield Exhibit(
        places.CONFIDENCES.name,
        "Confidence of right and of wrong answers",
        f"Of {models}, as shares of the right and of the wrong predictions.",
        bins,
        single(plots.plot_confidences, bins),
    )
    if rows["trial_id"].nunique() > 1:
        overlap = predicted.error_overlap(kept)
        yield Exhibit(
            places.ERROR_OVERLAP.name,
            "Models with other seeds miss the same images",
            f"Images of the {compared.num_images:,} by how many of {models} miss them. Dashed: "
            "what errors on random images would give.",
            overlap,
            single(plots.plot_error_overlap, overlap),
        )


def _gallery(
    which: str, title: str, chosen: pd.DataFrame, images: Mapping[int, np.ndarray], split: str
) -> Exhibit:
    pictures = np.stack([images[index] for index in chosen["index"]])
    captions = [
        f"no. {row.index_}\n{row.label} read as {row.predicted}\n{row.confidence:.2%}"
        for row in chosen.rename(columns={"index": "index_"}).itertuples()
    ]

    def draw(figure: Figure) -> None:
        plots.plot_images(pictures, captions, list(figure.subplots(1, len(chosen))))

    return Exhibit(
        f"gallery_{which}",
        title,
        f"{split.capitalize()} images of the first seed's model: place in the file (from 0), "
        "label and prediction, confidence.",
        chosen,
        draw,
        (11.0, 2.2),
    )


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
