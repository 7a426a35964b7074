"""The section on the CNN's errors: pictures, confidence, calibration, overlap between seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import paper, places, predicted
from analysis.evidence import Compared, Evidence, arm_of, batch_arms
from analysis.parts import Exhibit, Section, Table, single
from analysis.plots import predictions as plots
from study.results.estimates import OVER_SEEDS, over_seeds, show

GALLERY = 8  # images per row


def make_section(evidence: Evidence, images: Mapping[int, np.ndarray]) -> Section | None:
    """The section, if the predictions of the paper's configuration were kept.

    Args:
        evidence: All results.
        images: The evaluated images by index; empty if they are not available.
    """
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None or found[0].predictions_of(found[1][0]).empty:
        return None
    compared, (arm,) = found
    made = list(of_predictions(compared, arm, images))
    text = [] if images else ["Example pictures are missing: no image files in --data-dir."]
    tables = []
    if small := arm_of(compared, batch_size=64):
        tables.append(_mcnemar(compared, small, arm))
    return Section("predictions", "What the CNN gets wrong", text, made, tables)


def of_predictions(
    compared: Compared, arm: str, images: Mapping[int, np.ndarray]
) -> Iterator[Exhibit]:
    """Figures of the predictions of an arm's final models.

    Args:
        compared: A comparison with predictions.
        arm: Its arm.
        images: The evaluated images by index, uint8 (28, 28); empty if they are not available.
    """
    kept = compared.predictions_of(arm)
    rows = predicted.confidences(kept)
    models = f"{rows['trial_id'].nunique()} models of batch {arm}"
    trials = compared.of_arm(arm)["trial_id"]
    first = rows[rows["trial_id"] == trials[trials.isin(rows["trial_id"])].iloc[0]]
    titles = {
        "confident": "The errors with the highest confidence",
        "borderline": "The errors with a confidence nearest to 50%",
        "correct": "Correct predictions, from the least to the most confident",
    }
    for which, title in titles.items():
        chosen = predicted.gallery(first, which, GALLERY)
        if len(chosen) and set(chosen["index"]) <= set(images):
            yield _gallery(which, title, chosen, images, compared.images)
    table = predicted.reliability(rows)
    each = compared.calibration[compared.calibration["arm"] == arm]
    ece, temperature = over_seeds(each["ece"]), over_seeds(each["temperature"])
    yield Exhibit(
        places.RELIABILITY.name,
        "Does the confidence match the accuracy?",
        f"Predictions of {models} in {predicted.BINS} equally wide bins of confidence. Bars: 95% "
        "Wilson intervals. They are too narrow, because all models predict the same images. "
        "Numbers: predictions per bin. The expected calibration error is "
        f"{show(ece, '{:.2%}')}. The temperature with the lowest loss is "
        f"{show(temperature, '{:.2f}')} (both with a {OVER_SEEDS}, n = {len(each)}).",
        table,
        single(plots.plot_reliability, table),
        (5.5, 5.0),
    )
    bins = predicted.confidence_bins(rows)
    yield Exhibit(
        places.CONFIDENCES.name,
        "Confidence of correct and of wrong predictions",
        f"Predictions of {models}. The shares of the correct predictions add up to 100%, and so do "
        "those of the wrong ones.",
        bins,
        single(plots.plot_confidences, bins),
    )
    if rows["trial_id"].nunique() > 1:
        overlap = predicted.error_overlap(kept)
        yield Exhibit(
            places.ERROR_OVERLAP.name,
            "How many models with different seeds miss the same images",
            f"Number of the {compared.num_images:,} images by how many of the {models} miss them. "
            "Dashed: the number expected if each model's errors fell on random images.",
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
        f"{split.capitalize()} images, with the prediction of the first seed's model. Above each "
        "image: its index in the file (from 0), its label and the prediction, and the confidence.",
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
            f"correct only at {a}": table[f"only_{a}"].astype(str),
            f"correct only at {b}": table[f"only_{b}"].astype(str),
            "p": [f"{p:.2g}" for p in table["p"]],
        }
    )
    below = int((table["p"] < 0.05).sum())
    caption = (
        "Number of images that only one of a seed's two models predicts correctly, with the p of "
        f"the exact McNemar test. p is below 0.05 for {below} of {len(table)} seeds, without a "
        "correction for multiple tests."
    )
    return Table("mcnemar", caption, table, shown)
