"""Computes from the final models' predictions: confidence, calibration, errors, their overlap.

Most functions take rows of ``predictions.parquet`` (see `study.results.tables`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import poisson_binom
from statsmodels.stats.contingency_tables import mcnemar

from analysis.compared import ComparedTables
from analysis.intervals import wilson
from study.results.predictions import LOG_P_COLUMNS

BINS = 15  # of confidence
HISTOGRAM_BINS = 60  # of log-odds


def log_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """Natural logarithms of the class probabilities, float64 (n, 10), exactly normalised."""
    return log_softmax(predictions[list(LOG_P_COLUMNS)].to_numpy(np.float64), axis=1)


def confidences(predictions: pd.DataFrame) -> pd.DataFrame:
    """Each prediction with its confidence.

    Returns:
        One row per prediction: trial_id, index, label, predicted, ``confidence`` (the predicted
        class's probability), its ``log_odds``, ``loss`` (nats), and ``right``: whether the
        prediction is correct.
    """
    log_p = log_probabilities(predictions)
    rows = np.arange(len(log_p))
    predicted = predictions["predicted"].to_numpy(np.int64)
    top = log_p[rows, predicted]
    others = log_p.copy()
    others[rows, predicted] = -np.inf
    columns = ["trial_id", "index", "label", "predicted"]
    return predictions[columns].assign(
        confidence=np.exp(top),
        # Not log(p / (1 - p)), which is infinite if p rounds to 1.
        log_odds=top - np.logaddexp.reduce(others, axis=1),
        loss=-log_p[rows, predictions["label"].to_numpy(np.int64)],
        right=predictions["label"].to_numpy() == predicted,
    )


def reliability(confidence: pd.DataFrame) -> pd.DataFrame:
    """Accuracy against confidence in equally wide bins.

    Args:
        confidence: From `confidences`.

    Returns:
        One row per bin that is not empty: ``confidence`` and ``accuracy`` (means), ``n``, and the
        accuracy's 95% Wilson interval ``low``, ``high``. Several models' predictions for one
        image are not independent. With more than one model the interval is too narrow.
    """
    at = np.minimum((confidence["confidence"] * BINS).astype(int), BINS - 1)
    groups = confidence.groupby(at)
    table = pd.DataFrame(
        {
            "confidence": groups["confidence"].mean(),
            "accuracy": groups["right"].mean(),
            "n": groups.size(),
        }
    )
    return table.join(wilson(table["accuracy"], table["n"])).reset_index(drop=True)


def calibration_error(confidence: pd.DataFrame) -> float:
    """Expected calibration error in equally wide bins (Guo et al. 2017, equation 3)."""
    table = reliability(confidence)
    return float(
        (table["n"] * (table["accuracy"] - table["confidence"]).abs()).sum() / len(confidence)
    )


def temperature(predictions: pd.DataFrame) -> float:
    """The divisor of the logits that minimises the loss (Guo et al. 2017, section 4.2).

    A value above 1 means that the model is overconfident.
    """
    log_p = log_probabilities(predictions)
    rows, label = np.arange(len(log_p)), predictions["label"].to_numpy(np.int64)

    def loss(log_t: float) -> float:
        return -log_softmax(log_p / np.exp(log_t), axis=1)[rows, label].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))  # pyright: ignore[reportAttributeAccessIssue] -- scipy's result


def calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    """``ece`` and ``temperature`` of each model: one row per trial."""
    groups = predictions.groupby("trial_id", observed=True)
    rows = [
        {
            "trial_id": trial_id,
            "ece": calibration_error(confidences(group)),
            "temperature": temperature(group),
        }
        for trial_id, group in groups
    ]
    return pd.DataFrame(rows, columns=["trial_id", "ece", "temperature"])


def error_overlap(predictions: pd.DataFrame) -> pd.DataFrame:
    """Number of images by how many of the models miss them.

    Returns:
        One row per number of models, from 1 on: ``models``, ``images``, and ``expected`` (the
        number of images if each model's errors fell on random images).
    """
    wrong = predictions["label"] != predictions["predicted"]
    table = wrong.groupby([predictions["index"], predictions["trial_id"]], observed=True).first()
    table = table.unstack("trial_id")
    counts = table.sum(axis=1).value_counts()
    models = np.arange(1, table.shape[1] + 1)
    return pd.DataFrame(
        {
            "models": models,
            "images": counts.reindex(models, fill_value=0).to_numpy(),
            "expected": poisson_binom(table.mean().to_numpy()).pmf(models) * len(table),
        }
    )


def mcnemar_by_seed(compared: ComparedTables, arm_a: str, arm_b: str) -> pd.DataFrame:
    """Compares the errors of two arms' models, seed by seed.

    Returns:
        One row per replicate: ``only_a`` and ``only_b`` (images that only one of the two models
        gets right), and ``p`` of the exact McNemar test. The test is about these two models, not
        about other seeds.
    """
    right = compared.predictions["label"] == compared.predictions["predicted"]
    by_trial = right.groupby(compared.predictions["trial_id"], observed=True)
    both = compared.of_arm(arm_a).merge(compared.of_arm(arm_b), on="replicate")
    rows = []
    for pair in both.itertuples():
        trials = str(pair.trial_id_x), str(pair.trial_id_y)
        if any(trial not in by_trial.groups for trial in trials):
            continue  # its predictions were lost
        # All models' predictions are in the order of the evaluated images.
        a, b = (by_trial.get_group(trial).to_numpy() for trial in trials)
        table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        test: Any = mcnemar(table, exact=True)  # statsmodels has no types
        rows.append(
            {
                "replicate": pair.replicate,
                "only_a": table[0][1],
                "only_b": table[1][0],
                "p": test.pvalue,
            }
        )
    return pd.DataFrame(rows, columns=["replicate", "only_a", "only_b", "p"])


def confidence_bins(confidence: pd.DataFrame) -> pd.DataFrame:
    """Histogram of the log-odds of correct and of wrong predictions.

    Returns:
        One row per bin and value of ``right``: ``log_odds`` (the bin's middle) and ``density``
        (share of the correct, or of the wrong, predictions that are in the bin).
    """
    edges = np.linspace(
        confidence["log_odds"].min(), confidence["log_odds"].max(), HISTOGRAM_BINS + 1
    )
    rows = []
    for right, group in confidence.groupby("right"):
        counts, _ = np.histogram(group["log_odds"], edges)
        middles = (edges[1:] + edges[:-1]) / 2
        rows.append(
            pd.DataFrame({"right": right, "log_odds": middles, "density": counts / len(group)})
        )
    return pd.concat(rows, ignore_index=True)


def gallery(confidence: pd.DataFrame, which: str, count: int) -> pd.DataFrame:
    """Examples to look at, from one model.

    Args:
        confidence: From `confidences`, of one model.
        which: ``confident``: the errors with the highest confidence; ``borderline``: the errors
            whose confidence is nearest to 50%; ``correct``: correct predictions, from the
            least to the most confident in equal steps of rank.
        count: Number of examples.
    """
    errors, right = confidence[~confidence["right"]], confidence[confidence["right"]]
    if which == "confident":
        return errors.sort_values("log_odds", ascending=False).head(count)
    if which == "borderline":
        near = (errors["confidence"] - 0.5).abs().sort_values().index
        return errors.loc[near[:count]]
    ranked = right.sort_values("log_odds")
    return ranked.iloc[np.linspace(0, len(ranked) - 1, count).round().astype(int)]
