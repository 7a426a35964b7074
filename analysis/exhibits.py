"""The figures of a report: what each shows and says, computed but not yet drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import arms, figures, frames, paper, places, predicted
from analysis import comparison_figures as drawing
from analysis.evidence import Compared, Evidence, arm_of
from analysis.intervals import mean_interval, show
from analysis.render import Exhibit, panels, single
from study import questions
from study.questions import QUESTIONS
from study.results import StudyResults

GALLERY = 8  # images in a row
WIDE = (11.0, 3.9)
HIGHEST = 60.0  # inches
RESULT = "95 % t interval over seeds"


def of_search(study: StudyResults) -> list[Exhibit]:
    """The figures of a search."""
    trials, n = study.trials, study.study.num_evaluated
    best = frames.best_trials(trials)
    which = (
        "the best trial of each batch size, one seed each, with the learning rate, gamma and "
        "width that it had"
    )

    def exhibit(
        name: str, title: str, caption: str, frame: pd.DataFrame, plot: Callable[..., Any]
    ) -> Exhibit:
        return Exhibit(name, title, caption, frame, single(plot, frame))

    return [
        exhibit(
            "trial_map",
            "All trials",
            f"All {len(trials)} trials by learning rate and batch size; the lane within a batch "
            "size is the width, the colour is the validation error after the trial's last epoch. "
            "A pruned trial ran fewer epochs than a complete one, so its error is the error of "
            "an earlier time. Red: no finite result. gamma is not shown.",
            frames.trial_map(trials),
            figures.plot_trial_map,
        ),
        exhibit(
            "accuracy_by_epoch",
            "Accuracy by epoch",
            f"Validation accuracy after each epoch. Colour: {which}; grey: the other trials. "
            f"Bars at the end: 95 % Wilson intervals (n = {n:,} validation images); they leave "
            "out the luck of the seed and of having been selected as best.",
            frames.accuracy_by_epoch(study.epochs, trials, n),
            figures.plot_accuracy_by_epoch,
        ),
        exhibit(
            "loss_by_epoch",
            "Loss by epoch",
            f"Of {which}. Training loss is the mean over the epoch while dropout acts and the "
            "weights still change; validation loss is taken after the epoch without dropout. "
            "So the training loss can lie above.",
            frames.loss_by_epoch(study.epochs, best),
            figures.plot_loss_by_epoch,
        ),
        exhibit(
            "loss_by_step",
            "Loss by step",
            f"Training loss of {which}. Line: mean over windows of steps, equally wide on this "
            "axis; band: 10th to 90th percentile of the single steps' losses in a window (their "
            "spread, not an uncertainty). A step of a larger batch sees more images.",
            frames.loss_by_step(study.steps, best),
            figures.plot_loss_by_step,
        ),
    ]


def replicates(compared: Compared) -> str:
    """E.g. ``n = 10 seeds``; where the arms differ, the fewest and the most."""
    counts = compared.trials.groupby("arm").size()
    low, high = counts.min(), counts.max()
    return f"n = {low} seeds" if low == high else f"n = {low} to {high} seeds"


def loss_by_batch(compared: Compared) -> Exhibit | None:
    """The report's Fig. 2 with seeds: the headline; None where no step's loss was kept."""
    curves = compared.loss_curves
    if curves.empty:
        return None
    sds = curves.groupby("arm", sort=False)[["level_sd", "noise_sd"]].median()
    words = "; ".join(
        f"batch {arm}: {row.level_sd:.1g} and {row.noise_sd:.1g}" for arm, row in sds.iterrows()
    )
    return Exhibit(
        places.LOSS_BY_BATCH.name,
        "Training loss at each batch size, by steps, by images seen, and by seconds",
        f"Dots: single steps of one seed. Line: mean of the smoothed curves, band: lowest to "
        f"highest seed ({replicates(compared)}). The first epoch is smoothed by itself, so the "
        "line breaks at its end. Smoothed by a local-level Kalman smoother; standard deviations "
        "of its level a step and of its noise, by maximum likelihood, in nats (median over "
        f"seeds): {words}.",
        curves,
        panels(drawing.plot_loss_by_batch, curves, 3, share_y=True),
        WIDE,
    )


def of_batch_size(compared: Compared) -> Iterator[Exhibit]:
    """Beyond the headline."""
    by_epoch = compared.accuracy_by_epoch
    yield Exhibit(
        places.ACCURACY_BY_EPOCH.name,
        f"Accuracy on the {compared.images} images after each epoch",
        f"Thin: single seeds. Thick: mean, with its {RESULT} as band ({replicates(compared)}). "
        "The axis is logarithmic in the error.",
        by_epoch,
        single(drawing.plot_accuracy_by_arm, by_epoch),
    )
    rows = compared.loss_noise
    if len(rows):
        slopes = mean_interval(arms.noise_slope(rows)["slope"])
        yield Exhibit(
            places.LOSS_NOISE.name,
            "A smoother curve is what averaging more images gives",
            "Standard deviation of the full batches' losses in the last epoch around their own "
            f"straight line, a point a seed ({replicates(compared)}). Dashed: slope -1/2. Fitted "
            f"slope: {show(slopes, '{:.2f}')} ({RESULT}).",
            rows,
            single(drawing.plot_loss_noise, rows),
            (6.0, 4.2),
        )
    yield _to_target(compared, "to_target")
    scale, critical = compared.noise_scale, compared.critical_batch_size
    if len(scale):
        also = (
            f" From steps to {arms.TARGET:.0%} follows a critical batch size of "
            f"{show(critical, '{:,.0f}')} images (steps = S + E / B; bootstrap over seeds)."
            if critical
            else ""
        )
        yield Exhibit(
            places.NOISE_SCALE.name,
            "How noisy the gradient is: the batch size beyond which more images hardly help",
            "Simple noise scale (McCandlish et al. 2018) after each epoch, from the gradient's "
            "squared length at 64 and at 2 048 images, without dropout. Band: 95 % bootstrap "
            f"interval over seeds ({replicates(compared)}).{also}",
            scale,
            single(drawing.plot_noise_scale, scale, paper.CRITICAL_BATCH_SIZE),
        )
    rate = arms.throughput(compared)
    devices = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    yield Exhibit(
        places.THROUGHPUT.name,
        "Training images a second",
        f"A point a seed ({replicates(compared)}), each trial on a core or GPU of its own "
        f"({devices}); evaluation left out.",
        rate,
        single(drawing.plot_throughput, rate),
        (6.0, 4.0),
    )


def _to_target(compared: Compared, name: str) -> Exhibit:
    reached = compared.to_target
    missed = int(reached["epoch"].isna().sum())
    return Exhibit(
        name,
        f"What it takes to reach {arms.TARGET:.0%}",
        f"Steps, images and seconds to the end of the first epoch with that accuracy; a point a "
        f"seed ({replicates(compared)}), bar: median. {missed} of {len(reached)} runs never "
        "reached it.",
        reached,
        panels(drawing.plot_to_target, reached, 3),
        WIDE,
    )


def of_models(compared: Compared) -> Iterator[Exhibit]:
    """The two networks."""
    by_epoch = compared.accuracy_by_epoch
    yield Exhibit(
        "models_by_epoch",
        "The ResNet is more accurate from early on",
        f"Accuracy on the {compared.images} images. Thin: single seeds; thick: mean, with its "
        f"{RESULT} as band ({replicates(compared)}).",
        by_epoch,
        single(drawing.plot_accuracy_by_arm, by_epoch),
    )
    yield _to_target(compared, places.MODELS_TO_TARGET.name)


def of_schedule(compared: Compared) -> Iterator[Exhibit]:
    """The learning rate's decay."""
    by_epoch = compared.accuracy_by_epoch
    yield Exhibit(
        "stable_epoch",
        "What settles is the learning rate",
        f"Accuracy on the {compared.images} images at a decaying (gamma 0.7) and at a constant "
        f"learning rate. Thin: single seeds; thick: mean, with its {RESULT} as band "
        f"({replicates(compared)}).",
        by_epoch,
        single(drawing.plot_accuracy_by_arm, by_epoch),
    )


def of_regularization(compared: Compared) -> Iterator[Exhibit]:
    """Dropout times batch norm, a figure a network."""
    names = {"cnn": "CNN", "resnet18": "ResNet18"}  # of the paper; another goes by its own
    for model in compared.trials["model"].unique():
        rows = (
            compared.trials[compared.trials["model"] == model]
            .rename(columns={"last_eval_accuracy": "accuracy"})[
                ["dropout", "batch_norm", "replicate", "accuracy"]
            ]
            .dropna()
        )
        effects = arms.interaction(compared, model)
        words = "; ".join(
            f"{e.effect} {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in effects.itertuples()
        )
        yield Exhibit(
            places.regularization(model).name,
            f"Dropout and batch norm in the {names.get(model, model)}",
            f"Final accuracy on the {compared.images} images; thin: single seeds "
            f"({replicates(compared)}), thick: mean. Effects in percentage points, {RESULT}: "
            f"{words or 'not all four cells were run'}.",
            rows,
            single(drawing.plot_regularization, rows),
            (5.5, 4.2),
        )


def of_training_size(compared: Compared) -> Iterator[Exhibit]:
    """The learning curve."""
    rows = compared.trials[["train_examples", "replicate"]].assign(
        error=1 - compared.trials["last_eval_accuracy"]
    )
    rows = rows[rows["train_examples"].gt(0).fillna(False)]  # else it was lost with the rest
    yield Exhibit(
        places.LEARNING_CURVE.name,
        "Error against the number of training images",
        f"Final error on the {compared.images} images after {compared.config.epochs} epochs; a "
        f"point a seed ({replicates(compared)}), each with a training subset of its own. "
        "Fewer images are fewer steps as well. Dashed: a power law.",
        rows,
        single(drawing.plot_learning_curve, rows),
        (6.0, 4.2),
    )


def differences(evidence: Evidence) -> Exhibit | None:
    """Every comparison's arms against its baseline."""
    found = []
    for kind, compared in evidence.comparisons.items():
        if compared.trials.empty:
            continue
        question = QUESTIONS.get(kind)
        settings = question.arms[question.baseline] if question else {}
        baseline = arm_of(compared, **settings)
        rows = arms.paired_differences(compared, baseline)
        found.append(rows.assign(comparison=kind))
    frame = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    if frame.empty:
        return None
    return Exhibit(
        places.DIFFERENCES.name,
        "Every arm against its baseline, paired by seed",
        f"Difference of final accuracy with its {RESULT}. Grey zone: within {arms.MARGIN} points, "
        "which was set in advance to count as equal. The axis is logarithmic away from zero.",
        frame,
        single(drawing.plot_differences, frame, arms.MARGIN),
        (7.5, min(1.3 + 0.55 * len(frame), HIGHEST)),
    )


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
        single(drawing.plot_reliability, table),
        (5.5, 5.0),
    )
    bins = predicted.confidence_bins(rows)
    yield Exhibit(
        places.CONFIDENCES.name,
        "Confidence of right and of wrong answers",
        f"Of {models}, as shares of the right and of the wrong predictions.",
        bins,
        single(drawing.plot_confidences, bins),
    )
    if rows["trial_id"].nunique() > 1:
        overlap = predicted.error_overlap(kept)
        yield Exhibit(
            places.ERROR_OVERLAP.name,
            "Models with other seeds miss the same images",
            f"Images of the {compared.num_images:,} by how many of {models} miss them. Dashed: "
            "what errors on random images would give.",
            overlap,
            single(drawing.plot_error_overlap, overlap),
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
        drawing.plot_images(pictures, captions, list(figure.subplots(1, len(chosen))))

    return Exhibit(
        f"gallery_{which}",
        title,
        f"{split.capitalize()} images of the first seed's model: place in the file (from 0), "
        "label and prediction, confidence.",
        chosen,
        draw,
        (11.0, 2.2),
    )


OF_QUESTION = {
    questions.BATCH_SIZE.name: of_batch_size,
    questions.MODELS.name: of_models,
    questions.SCHEDULE.name: of_schedule,
    questions.REGULARIZATION.name: of_regularization,
    questions.TRAINING_SIZE.name: of_training_size,
}


def of_any(compared: Compared) -> Iterator[Exhibit]:
    """Of a comparison that has none of its own."""
    by_epoch = compared.accuracy_by_epoch
    yield Exhibit(
        "by_epoch",
        f"Accuracy on the {compared.images} images after each epoch",
        f"Thin: single seeds. Thick: mean, with its {RESULT} as band ({replicates(compared)}).",
        by_epoch,
        single(drawing.plot_accuracy_by_arm, by_epoch),
    )
