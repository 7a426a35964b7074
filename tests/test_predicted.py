from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from analysis import predicted
from study.results.predictions import LOG_P_COLUMNS
from tests.helpers.compared import write_comparison


def frame(log_p, labels, trial="trial_00000"):
    log_p = np.asarray(log_p, float)
    return pd.DataFrame(log_p, columns=list(LOG_P_COLUMNS)).assign(
        trial_id=trial, index=np.arange(len(log_p)), label=labels, predicted=log_p.argmax(1)
    )


def draws(n=20_000, temperature=1.0, seed=0):
    """Models whose labels are drawn from their own probabilities at another temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 10))
    p = np.exp(logits / temperature)
    p /= p.sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return frame(logits - np.log(np.exp(logits).sum(1, keepdims=True)), labels)


def test_confidences_by_hand():
    p = np.array([[0.7, 0.2] + [0.0125] * 8, [0.01] * 9 + [0.91]])
    rows = predicted.confidences(frame(np.log(p), [1, 9]))
    assert rows["confidence"].tolist() == pytest.approx([0.7, 0.91])
    assert rows["log_odds"].tolist() == pytest.approx([np.log(0.7 / 0.3), np.log(0.91 / 0.09)])
    assert rows["loss"].tolist() == pytest.approx([-np.log(0.2), -np.log(0.91)])
    assert rows["right"].tolist() == [False, True]


def test_log_odds_stay_finite_where_the_confidence_rounds_to_one():
    log_p = np.full((1, 10), -50.0)
    log_p[0, 3] = 0.0
    row = predicted.confidences(frame(log_p, [3])).iloc[0]
    assert row["confidence"] == 1
    assert row["log_odds"] == pytest.approx(50 - np.log(9))


def test_reliability_is_plain_pandas():
    rows = predicted.confidences(draws(3000))
    table = predicted.reliability(rows)
    bins = pd.cut(rows["confidence"], np.linspace(0, 1, 16), right=False, labels=False)
    plain = rows.groupby(bins).agg(
        confidence=("confidence", "mean"), accuracy=("right", "mean"), n=("right", "size")
    )
    np.testing.assert_allclose(table[["confidence", "accuracy", "n"]], plain)
    ece = (plain["n"] * (plain["accuracy"] - plain["confidence"]).abs()).sum() / 3000
    assert predicted.calibration_error(rows) == pytest.approx(ece)
    ends = binomtest(round(table["accuracy"].iloc[3] * table["n"].iloc[3]), int(table["n"].iloc[3]))
    assert table["low"].iloc[3] == pytest.approx(ends.proportion_ci(0.95, "wilson").low)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.0])
def test_the_temperature_that_was_put_in_is_found(truth):
    kept = draws(temperature=truth)
    assert predicted.temperature(kept) == pytest.approx(truth, rel=0.05)
    ece = predicted.calibration_error(predicted.confidences(kept))
    assert (ece < 0.012) == (truth == 1.0)


def test_calibration_has_a_row_a_model(tmp_path):
    compared = write_comparison(tmp_path / "c", {"32": {"batch_size": 32}, "512": {}}, replicates=2)
    table = predicted.calibration(compared.predictions)
    assert table["trial_id"].tolist() == [f"trial_{i:05d}" for i in range(4)]
    assert table["temperature"].between(0.05, 20).all()


def models(missed, n=100):
    """One row per model: the images that it misses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    kept = []
    for number, wrong in enumerate(missed):
        log_p = np.full((n, 10), -9.0)
        log_p[np.arange(n), labels] = -0.001
        log_p[wrong, labels[wrong]] = -12.0
        kept.append(frame(log_p, labels, f"trial_{number:05d}"))
    return pd.concat(kept, ignore_index=True)


def test_overlap_counts_images_by_how_many_models_miss_them():
    kept = models([[1, 2, 3], [2, 3, 4], [3, 50]])
    table = predicted.error_overlap(kept).set_index("models")
    assert table["images"].to_dict() == {1: 3, 2: 1, 3: 1}
    # Errors of 3, 3 and 2 in 100 at random.
    a, b, c = 0.03, 0.03, 0.02
    assert table["expected"][3] == pytest.approx(100 * a * b * c)
    one = a * (1 - b) * (1 - c) + (1 - a) * b * (1 - c) + (1 - a) * (1 - b) * c
    assert table["expected"][1] == pytest.approx(100 * one)


def test_mcnemar_is_the_binomial_test_of_the_discordant_images(tmp_path):
    arms = {"64": {"batch_size": 64}, "512": {}}
    compared = write_comparison(tmp_path / "c", arms, failed={("64", 2)})
    table = predicted.mcnemar_by_seed(compared, "64", "512").set_index("replicate")
    assert table.index.tolist() == [1, 3, 4]
    kept = compared.predictions
    right = (kept["label"] == kept["predicted"]).groupby(kept["trial_id"], observed=True)
    trials = compared.trials.set_index(["arm", "replicate"])["trial_id"]
    for k, row in table.iterrows():
        a, b = (right.get_group(trials[arm, k]).to_numpy() for arm in ("64", "512"))
        assert (row["only_a"], row["only_b"]) == (sum(a > b), sum(b > a))
        p = binomtest(
            int(min(row["only_a"], row["only_b"])), int(row["only_a"] + row["only_b"])
        ).pvalue
        assert row["p"] == pytest.approx(p)


def test_galleries_show_what_they_say():
    rows = predicted.confidences(draws(2000))
    sure = predicted.gallery(rows, "confident", 5)
    assert not sure["right"].any()
    assert sure["confidence"].min() >= rows[~rows["right"]]["confidence"].quantile(0.99)
    near = predicted.gallery(rows, "borderline", 5)
    assert (near["confidence"] - 0.5).abs().max() < 0.02
    assert not near["right"].any()
    correct = predicted.gallery(rows, "correct", 5)
    assert correct["right"].all()
    ends = rows[rows["right"]]["confidence"]
    assert correct["confidence"].iloc[[0, -1]].tolist() == [ends.min(), ends.max()]


def test_bins_are_shares():
    bins = predicted.confidence_bins(predicted.confidences(draws(2000)))
    assert bins.groupby("right")["density"].sum().tolist() == pytest.approx([1, 1])
