"""Judges claims C9 to C15, on the final CNN and what would improve it (section II.B)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import comparison_frames as frames
from analysis import paper, predicted, stability
from analysis.evidence import Compared, Evidence, arm_of, batch_arms
from analysis.intervals import NATS, POINTS, SEED, prediction_interval
from analysis.verdicts import (
    CONTRADICTED,
    NOT_DISTINGUISHABLE,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    NoEvidence,
    contains,
    direction,
    finding,
    needed,
    used,
)
from study.config.questions import MODELS, SCHEDULE, TRAINING_SIZE
from study.results.estimates import Estimate, over_seeds, show


def c9(evidence: Evidence) -> Finding:
    """The accuracy is stable after the sixth epoch."""
    compared, (arm,) = needed(batch_arms(evidence, paper.BATCH_SIZE))
    change, settled = _stable(compared, arm)
    limit = paper.STABLE_EPOCH + 1
    verdict = (
        REPRODUCED
        if settled.high <= limit
        else CONTRADICTED
        if settled.low > limit
        else NOT_DISTINGUISHABLE
    )
    why = (
        f"From this epoch on, the mean accuracy stays within {frames.MARGIN} points of its last "
        "value. A line that rises and then stays level, fitted to the mean accuracy, bends at "
        f"epoch {show(change, '{:.1f}')}."
    )
    schedule = evidence.get(SCHEDULE)
    if constant := arm_of(schedule, gamma=1.0):
        assert schedule is not None
        _, without = _stable(schedule, constant)
        why += (
            " With a constant learning rate (gamma 1) the first stable epoch is "
            f"{show(without, '{:.0f}')}."
        )
    return finding(
        verdict,
        settled,
        "{:.0f}",
        why=why,
        estimate="is the first stable epoch",
        trials=used(compared, arm),
    )


def _stable(compared: Compared, arm: str) -> tuple[Estimate, Estimate]:
    by_epoch = compared.accuracy_by_epoch
    rng = np.random.default_rng(SEED)
    return stability.stable_epoch(by_epoch[by_epoch["arm"] == arm], rng, frames.MARGIN / 100)


def c10(evidence: Evidence) -> Finding:
    """The final test loss."""
    compared, (arm,) = needed(batch_arms(evidence, paper.BATCH_SIZE))
    e = prediction_interval(compared.of_arm(arm)["last_eval_loss"])
    others = frames.by_arm(compared).set_index("arm")["loss"].drop(arm)
    means = ", ".join(f"{loss:.4f} at {name}" for name, loss in others.items())
    return finding(
        contains(e, paper.TEST_LOSS),
        e,
        NATS,
        estimate="for one run at batch 512",
        why="The paper does not say for which batch size."
        + (f" The means at the other batch sizes are {means}." if means else ""),
        trials=used(compared, arm),
    )


def _predicted(evidence: Evidence) -> tuple[Compared, str, pd.DataFrame] | None:
    """The paper's CNN, and what its final models predicted."""
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None:
        return None
    compared, (arm,) = found
    rows = compared.predictions_of(arm)
    return None if rows.empty else (compared, arm, predicted.confidences(rows))


def _share(rows: pd.DataFrame, condition: pd.Series) -> Estimate:
    """Mean over models of the share of rows that meet a condition."""
    return over_seeds(condition.groupby(rows["trial_id"], observed=True).mean())


def c11(evidence: Evidence) -> Finding:
    """The same errors have confidences above 0.9 and about 0.5."""
    compared, arm, rows = needed(_predicted(evidence))
    errors = rows[~rows["right"]]
    sure = _share(errors, errors["confidence"] > paper.CONFIDENT)
    half = _share(errors, errors["confidence"].between(0.4, 0.6))
    return finding(
        NOT_TESTABLE,
        sure,
        "{:.0%}",
        estimate="of the errors have a confidence above 0.9, and "
        f"{show(half, '{:.0%}')} have one between 0.4 and 0.6",
        why="The paper's two statements about the same four pictures cannot both be true. The "
        "second is probably meant for (e)-(h). Errors of both kinds occur here.",
        trials=used(compared, arm),
    )


def c12(evidence: Evidence) -> Finding:
    """The confidences of errors show underfitting."""
    low, high = paper.ERROR_CONFIDENCES
    compared, arm, rows = needed(_predicted(evidence))
    errors = rows[~rows["right"]]
    e = _share(errors, errors["confidence"].between(low, high))
    table = compared.calibration[compared.calibration["arm"] == arm]
    ece, temperature = over_seeds(table["ece"]), over_seeds(table["temperature"])
    return finding(
        NOT_TESTABLE,
        e,
        "{:.0%}",
        estimate="of the errors have a confidence in this range",
        why="A range of confidences does not tell underfitting from overfitting. What can be "
        f"measured is the calibration. The expected calibration error is {show(ece, '{:.2%}')}. "
        f"The temperature with the lowest loss is {show(temperature, '{:.2f}')} (above 1: "
        "overconfident).",
        trials=used(compared, arm),
    )


def c13(evidence: Evidence) -> Finding:
    """Most correct predictions have a confidence above 99%."""
    compared, arm, rows = needed(_predicted(evidence))
    right = rows[rows["right"]]
    e = _share(right, right["confidence"] > paper.CORRECT_CONFIDENCE)
    rounded = _share(right, right["confidence"] >= 0.99995)
    return finding(
        direction(e, 0.5),
        e,
        "{:.1%}",
        estimate="of the correct predictions have a confidence above 99%",
        why="The verdict is about most of the correct predictions, that is, more than half of "
        f"them. {show(rounded, '{:.0%}')} of them are 100.00% when rounded to two decimals. A "
        "softmax output is never exactly 100%.",
        trials=used(compared, arm),
    )


def c14(evidence: Evidence) -> Finding:
    """Most of the errors are also hard for people."""
    compared, arm, rows = needed(_predicted(evidence))
    models = rows["trial_id"].nunique()
    missed = (~rows["right"]).groupby(rows["index"]).sum()
    union, always = int((missed > 0).sum()), int((missed == models).sum())
    return Finding(
        NOT_TESTABLE,
        f"{always} of the {union} images that any of the {models} models misses are missed by all",
        "The paper reports no test with people, and does not say how its examples were chosen. "
        "What can be measured is how often models with different seeds miss the same images. In a "
        "later study people checked the test labels and found 15 of them wrong (Northcutt et al. "
        "2021).",
        value=always / union if union else np.nan,
        n=models,
        trials=used(compared, arm),
    )


def c15(evidence: Evidence) -> Finding:
    """More data is the best remedy."""
    sizes = evidence.get(TRAINING_SIZE)
    a, b = arm_of(sizes, train_examples=55_000), arm_of(sizes, train_examples=27_500)
    if sizes is None or not (a and b):
        raise NoEvidence
    data = frames.points(sizes, a, b)
    models = evidence.get(MODELS)
    resnet, cnn = arm_of(models, model="resnet18"), arm_of(models, model="cnn")
    if models is None or not (resnet and cnn):
        return finding(
            NOT_DISTINGUISHABLE,
            data,
            POINTS,
            estimate="of accuracy from twice the images",
            why="Whether this is the best remedy can only be judged against another remedy. To "
            "judge it, run:",
            command=MODELS.command,
            trials=used(sizes, a, b),
        )
    other = frames.points(models, resnet, cnn)
    verdict = (
        CONTRADICTED
        if other.low > data.high
        else REPRODUCED
        if data.low > other.high
        else NOT_DISTINGUISHABLE
    )
    return finding(
        verdict,
        data,
        POINTS,
        estimate="of accuracy from twice the images (27,500 to 55,000)",
        why="The paper does not say what other remedy more data should beat. Its ResNet is more "
        f"accurate than its CNN by {show(other, POINTS)} with the same training images "
        f"(n = {other.n}; {models.images} images).",
        trials=used(sizes, a, b) + used(models, resnet, cnn),
    )
