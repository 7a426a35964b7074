"""The frames of comparisons against plain pandas and against known effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import comparison_frames as frames
from tests.helpers.compared import EPOCHS, NUM_TRAIN, accuracy_of, write_comparison

SIZES = {str(b): {"batch_size": b} for b in (32, 64, 512)}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c") / "batch-size"
    return write_comparison(folder, SIZES, failed={("64", 2)})


def test_trials_stand_in_the_order_of_the_arms_without_the_lost_one(compared):
    assert compared.trials["arm"].tolist() == ["32"] * 4 + ["64"] * 3 + ["512"] * 4
    assert compared.of_arm("64")["replicate"].tolist() == [1, 3, 4]
    assert compared.images == "test"


def test_by_arm_is_plain_pandas(compared):
    table = frames.by_arm(compared).set_index("arm")
    assert table["n"].to_dict() == {"32": 4, "64": 3, "512": 4}
    assert table["lost"].to_dict() == {"32": 0, "64": 1, "512": 0}
    plain = compared.trials.groupby("arm")
    for name, column in (("accuracy", "last_eval_accuracy"), ("loss", "last_eval_loss")):
        pd.testing.assert_series_equal(
            table[name].sort_index(),
            plain[column].mean(),
            check_names=False,
            check_index_type=False,
        )
    sd = plain["last_eval_accuracy"].std()
    pd.testing.assert_series_equal(
        table["accuracy_sd"].sort_index(), sd, check_names=False, check_index_type=False
    )
    assert (
        (table["accuracy_low"] < table["accuracy"]) & (table["accuracy"] < table["accuracy_high"])
    ).all()


def test_differences_are_paired_by_seed(compared):
    table = frames.paired_differences(compared, "512").set_index("arm")
    assert table["n"].to_dict() == {"32": 4, "64": 3}
    by_hand = [
        100 * (accuracy_of(SIZES["64"], k) - accuracy_of(SIZES["512"], k)) for k in (1, 3, 4)
    ]
    assert table.loc["64", "difference"] == pytest.approx(np.mean(by_hand))
    assert table.loc["64", "probability_above"] == 1
    assert table.loc["64", "equivalence_p"] > 0.5
    assert table.loc["32", "low"] < 1.0 < table.loc["32", "high"] + 0.5


def test_accuracy_by_epoch_has_every_run_and_its_arms_mean(compared):
    rows = frames.accuracy_by_epoch(compared)
    assert len(rows) == 11 * EPOCHS
    assert rows["arm"].unique().tolist() == ["32", "64", "512"]
    plain = rows.groupby(["arm", "epoch"])["accuracy"].transform("mean")
    np.testing.assert_allclose(rows["mean"], plain)
    assert (rows["low"] <= rows["mean"]).all()


def test_loss_curves_hold_the_steps_losses_and_axes(compared):
    curves = frames.loss_curves(compared)
    one = curves[(curves["arm"] == "512") & (curves["replicate"] == 1)]
    steps = compared.results.steps
    trial = compared.of_arm("512")["trial_id"].iloc[0]
    own = steps[steps["trial_id"] == trial].set_index("step")
    np.testing.assert_array_equal(one["loss"], own.loc[one["step"], "loss"])
    np.testing.assert_array_equal(one["examples"], own["num_examples"].cumsum()[one["step"]])
    assert one["examples"].iloc[-1] == EPOCHS * NUM_TRAIN
    assert one["seconds"].iloc[-1] == pytest.approx(EPOCHS * (2 + 60 / 512))
    np.testing.assert_array_equal(one["epoch"], own.loc[one["step"], "epoch"])
    assert one["step"].is_monotonic_increasing
    assert one["step"].iloc[[0, -1]].tolist() == [1, 120]


def test_the_noise_of_losses_falls_with_the_square_root_of_the_batch(compared):
    noise = frames.loss_noise(compared)
    assert len(noise) == 11
    expected = 1.6 / np.sqrt(noise["batch_size"])
    assert (np.log(noise["sd"] / expected).abs() < 0.6).all()
    slope = frames.noise_slope(noise)
    assert slope["replicate"].tolist() == [1, 3, 4]
    assert slope["slope"].mean() == pytest.approx(-0.5, abs=0.25)


def test_to_target_is_the_first_epoch_at_or_above(compared):
    reached = frames.to_target(compared, 0.85).set_index(["arm", "replicate"])
    epochs = compared.epochs()
    for key, row in reached.iterrows():
        own = epochs[(epochs["arm"] == key[0]) & (epochs["replicate"] == key[1])]
        above = own[own["eval_accuracy"] >= 0.85]
        assert row["epoch"] == above["epoch"].min()
        assert row["seconds"] == pytest.approx(own["epoch_seconds"].iloc[: int(row["epoch"])].sum())
        assert row["examples"] == row["epoch"] * NUM_TRAIN
    assert frames.to_target(compared, 0.999)["epoch"].isna().all()


def test_throughput_leaves_evaluation_out(compared):
    rows = frames.throughput(compared).set_index(["arm", "replicate"])
    expected = NUM_TRAIN / (2 + 60 / 32 - 0.5)
    assert rows.loc[("32", 1), "images_per_second"] == pytest.approx(expected)


CELLS = {
    "none": {"dropout": False, "batch_norm": False},
    "dropout": {"dropout": True, "batch_norm": False},
    "norm": {"dropout": False, "batch_norm": True},
    "both": {"dropout": True, "batch_norm": True},
}


def test_the_two_by_twos_effects_are_found(tmp_path):
    compared = write_comparison(tmp_path / "regularization", CELLS, replicates=6)
    effects = frames.interaction(compared, "cnn").set_index("effect")
    assert effects.loc["dropout", "value"] == pytest.approx(2, abs=0.5)
    assert effects.loc["batch norm", "value"] == pytest.approx(1, abs=0.5)
    assert abs(effects.loc["interaction", "value"]) < 0.7
    wide = compared.trials.pivot(index="replicate", columns="arm", values="last_eval_accuracy")
    by_hand = (wide["both"] - wide["norm"] - wide["dropout"] + wide["none"]).mean() * 100
    assert effects.loc["interaction", "value"] == pytest.approx(by_hand)
    assert frames.interaction(compared, "resnet18").empty
