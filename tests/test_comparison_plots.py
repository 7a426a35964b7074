"""Figures of comparisons: what is drawn is what was computed."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import comparison_frames as frames
from analysis import predicted
from analysis.plots import batch_size, comparison, predictions
from analysis.plots.style import arm_styles, count, ordered_colours
from tests.helpers.compared import EPOCHS, write_comparison


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c") / "batch-size"
    return write_comparison(folder, {str(b): {"batch_size": b} for b in (32, 64, 512)})


def axes(count=1):
    figure = Figure()
    return figure.subplots(1, count)


def lines(ax, minimum=2):
    return [line for line in ax.get_lines() if len(line.get_xdata()) >= minimum]


def test_ordered_arms_take_a_ramp_in_their_order_and_all_a_marker_of_their_own():
    styles = arm_styles(["512", "32", "64"])
    assert list(styles) == ["32", "64", "512"]
    assert [style["color"] for style in styles.values()] == ordered_colours(3)
    assert len({style["marker"] for style in styles.values()}) == 3
    assert list(arm_styles(["cnn", "resnet18"])) == ["cnn", "resnet18"]


def test_loss_by_batch_has_a_mean_line_an_arm_in_each_panel_broken_after_the_first_epoch(compared):
    curves = frames.loss_curves(compared)
    panels = axes(3)
    batch_size.plot_loss_by_batch(curves, panels)
    for ax, x in zip(panels, ("step", "examples", "seconds"), strict=True):
        thick = [line for line in ax.get_lines() if line.get_linewidth() == 2]
        own = curves[curves["arm"] == "32"].groupby("step")[[x, "smoothed", "epoch"]].mean()
        # The two epochs were smoothed separately, so no line connects them.
        pieces = own[own["epoch"] == 1], own[own["epoch"] > 1]
        assert len(thick) == 3 * len(pieces)
        for line, piece in zip(thick[:2], pieces, strict=True):
            np.testing.assert_allclose(line.get_xdata(), piece[x])
            np.testing.assert_allclose(line.get_ydata(), piece["smoothed"])
    labels = [text.get_text() for text in panels[-1].get_legend().get_texts()]
    assert labels == ["batch 32", "batch 64", "batch 512"]


def test_accuracy_by_arm_draws_every_run_and_the_mean(compared):
    by_epoch = frames.accuracy_by_epoch(compared)
    ax = axes()
    comparison.plot_accuracy_by_arm(by_epoch, ax=ax)
    assert len([line for line in lines(ax) if line.get_linewidth() < 1]) == 12
    thick = [line for line in lines(ax) if line.get_linewidth() == 2]
    assert [line.get_label() for line in thick] == ["32", "64", "512"]
    expected = by_epoch[by_epoch["arm"] == "512"].drop_duplicates("epoch")["mean"]
    np.testing.assert_allclose(thick[2].get_ydata(), 1 - expected)
    assert len(thick[2].get_xdata()) == EPOCHS
    assert ax.yaxis_inverted()


def test_differences_show_estimate_interval_and_zone(compared):
    frame = frames.paired_differences(compared, "512").assign(comparison="batch-size")
    ax = axes()
    comparison.plot_differences(frame, 0.1, ax=ax)
    (points,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xdata(), frame["difference"][::-1])
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels[-1] == "32 minus 512\nbatch-size, n = 4"


def test_loss_noise_has_a_point_a_trial_and_the_line(compared):
    noise = frames.loss_noise(compared)
    ax = axes()
    batch_size.plot_loss_noise(noise, ax=ax)
    drawn = np.concatenate(
        [line.get_ydata() for line in ax.get_lines() if line.get_linestyle() == "None"]
    )
    assert sorted(drawn) == pytest.approx(sorted(noise["sd"]))
    (line,) = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    x, y = line.get_xdata(), line.get_ydata()
    assert np.log(y[1] / y[0]) / np.log(x[1] / x[0]) == pytest.approx(-0.5)


def test_to_target_leaves_out_who_never_reached_it(compared):
    reached = frames.to_target(compared, 0.905)
    assert 0 < reached["epoch"].isna().sum() < len(reached)
    panels = axes(3)
    comparison.plot_to_target(reached, panels)
    drawn = sum(len(line.get_xdata()) for line in panels[0].get_lines())
    assert drawn == reached["step"].notna().sum()


def test_reliability_and_overlap(compared):
    table = predicted.reliability(predicted.confidences(compared.predictions))
    ax = axes()
    predictions.plot_reliability(table, ax=ax)
    (points,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_ydata(), table["accuracy"])
    overlap = predicted.error_overlap(compared.predictions)
    ax = axes()
    predictions.plot_error_overlap(overlap, ax=ax)
    assert [bar.get_height() for bar in ax.patches] == overlap["images"].tolist()


def test_images_are_dark_on_light():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 14] = 255
    ax = axes()
    predictions.plot_images(image, ["no. 1"], [ax])
    shown = ax.get_images()[0].get_array()
    assert (shown[14] == 0).all()
    assert (shown[0] == 255).all()


@pytest.mark.parametrize(
    ("value", "text"), [(100000.0, "100,000"), (1.0, "1"), (0.1, "0.1"), (2e6, "2M")]
)
def test_counts_are_grouped(value, text):
    assert count(value) == text
