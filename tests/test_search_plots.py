"""The figures of a search show what their frames hold."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis import search_frames as frames
from analysis.plots import search as plots
from analysis.plots import style


def labelled(ax):
    """The lines of each batch size, by batch size."""
    return {int(line.get_label()): line for line in ax.get_lines() if line.get_label().isdigit()}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def luminance(colour):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("paper", ["#ffffff", "#17181a"])
def test_ordered_colours_are_legible_on_light_and_on_dark(count, paper):
    for colour in style.ordered_colours(count):
        low, high = sorted([luminance(colour), luminance(paper)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_colours_are_ordered_and_markers_differ():
    styles = style.arm_styles([1024, 64, 512, 64])
    assert list(styles) == [64, 512, 1024]
    brightness = [luminance(style["color"]) for style in styles.values()]
    assert brightness == sorted(brightness, reverse=True)
    assert len({style["marker"] for style in styles.values()}) == 3


def test_loss_by_step(made_up):
    frame = frames.loss_by_step(made_up.steps, frames.best_trials(made_up.trials))
    ax = plots.plot_loss_by_step(frame, ax=Figure().subplots())
    assert legend_texts(ax) == ["64", "512", "1024"]
    for batch_size, line in labelled(ax).items():
        curve = frame[frame["batch_size"] == batch_size]
        np.testing.assert_array_equal(line.get_xdata(), curve["step"])
        np.testing.assert_array_equal(line.get_ydata(), curve["loss"])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "nats" in ax.get_ylabel()


def test_loss_by_epoch(made_up):
    frame = frames.loss_by_epoch(made_up.epochs, frames.best_trials(made_up.trials))
    ax = plots.plot_loss_by_epoch(frame, ax=Figure().subplots())
    validation = frame[(frame["split"] == "validation") & (frame["batch_size"] == 64)]
    np.testing.assert_array_equal(labelled(ax)[64].get_ydata(), validation["loss"])
    assert len(ax.get_lines()) == 6  # two splits of three trials
    assert legend_texts(ax) == ["validation", "training"]


def test_accuracy_by_epoch(made_up):
    frame = frames.accuracy_by_epoch(made_up.epochs, made_up.trials, 200)
    ax = plots.plot_accuracy_by_epoch(frame, ax=Figure().subplots())
    np.testing.assert_array_equal(labelled(ax)[64].get_ydata(), [0.97, 0.985, 0.99])
    grey = [line for line in ax.get_lines() if line.get_color() == style.GREY]
    assert len(grey) == 5  # every other trial with an epoch
    bars = [
        line
        for line in ax.get_lines()
        if line.get_label().startswith("_")
        and len(set(line.get_xdata())) == 1
        and len(line.get_xdata()) == 2
    ]
    ends = frame[frame["best"]].groupby("trial_id").tail(1)
    got = sorted(tuple(line.get_ydata()) for line in bars)
    assert got == sorted(zip(ends["low"], ends["high"], strict=True))


def test_trial_map_shows_every_trial(made_up):
    frame = frames.trial_map(made_up.trials)
    ax = plots.plot_trial_map(frame, ax=Figure().subplots())
    points = [offset for c in ax.collections for offset in np.asarray(c.get_offsets())]
    assert len(points) == len(frame) + 1  # and the ring around the best
    assert sorted({round(x, 9) for x, _ in points}) == sorted(frame["lr"].unique())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["64", "256", "512", "1024"]
    assert {"complete", "pruned", "diverged", "failed", "interrupted", "best"} <= set(
        legend_texts(ax)
    )


@pytest.mark.parametrize("name", ["loss_by_step", "loss_by_epoch", "accuracy_by_epoch"])
def test_no_results_is_said(fruitless, name):
    best = frames.best_trials(fruitless.trials)
    frame = {
        "loss_by_step": lambda: frames.loss_by_step(fruitless.steps, best),
        "loss_by_epoch": lambda: frames.loss_by_epoch(fruitless.epochs, best),
        "accuracy_by_epoch": lambda: frames.accuracy_by_epoch(
            fruitless.epochs, fruitless.trials, 200
        ),
    }[name]()
    figure = Figure()
    ax = figure.subplots()
    getattr(plots, f"plot_{name}")(frame, ax=ax)
    figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == [plots.NO_DATA]


def test_likely_best(made_up):
    frame = frames.shrunk(made_up)
    assert frame["paper"].tolist() == [False, True, False]
    ax = plots.plot_likely_best(frame, ax=Figure().subplots())
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[-1] == f"trial_00001 ({frame['p_best'].iloc[0]:.2f})"  # the highest
    assert labels.count(f"the paper's, trial_00000 ({frame['p_best'].iloc[1]:.2f})") == 1
    drawn = {tuple(np.round(line.get_xdata(), 9)) for line in ax.get_lines()}
    for column in ("expected", "accuracy"):
        for _, group in frame.iloc[::-1].groupby("told_apart"):
            assert tuple(np.round(1 - group[column], 9)) in drawn
