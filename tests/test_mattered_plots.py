"""Each figure of what mattered shows what its frame holds, whatever the search holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.importance import importance
from analysis.mattered_frames import isolation, varied
from analysis.plots import mattered as plots
from analysis.plots.search import STATUS_MARKERS
from analysis.render import drawn
from analysis.search_frames import trial_map
from analysis.sections.mattered import make_section
from tests.conftest import TRIALS, write_study
from tests.helpers.planted import TWO_OPTIMIZERS, planted


def marks_of(ax):
    """Every mark of the axes as (x, y, shape, colour)."""
    return [
        (float(x), float(y), line.get_marker(), to_rgb(line.get_color()))
        for line in ax.get_lines()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def several_optimizers():
    rng = np.random.default_rng(1)
    return planted(60, rng, lambda at: 0.9 + 0.09 * at["lr"], TWO_OPTIMIZERS)


@pytest.mark.parametrize("which", ["none", "one", "all", "several optimizers", "tall"])
def test_every_figure_is_drawn_without_a_complaint(which, tmp_path, fruitless):
    study = {
        "none": lambda: fruitless,
        "one": lambda: write_study(tmp_path, TRIALS[:1]),
        "all": lambda: write_study(tmp_path, TRIALS),
        "several optimizers": several_optimizers,
        "tall": lambda: planted(200, np.random.default_rng(1), lambda at: at["gamma"]),
    }[which]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for exhibit in make_section(study, "").exhibits:
            figure = drawn(exhibit)
            figure.savefig(tmp_path / "figure.png")
            assert figure.axes, exhibit.name


def test_every_trial_is_in_every_panel_with_its_own_mark(made_up):
    frame, space = trial_map(made_up.trials), varied(made_up)
    figure = Figure()
    plots.plot_by_hyperparameter(frame, space, figure)
    assert [ax.get_xlabel() for ax in figure.axes] == ["batch", "lr", "gamma", "width"]
    for ax in figure.axes:
        marks = marks_of(ax)
        assert len(marks) == len(frame)
        expected = sorted(STATUS_MARKERS[status] for status in frame["status"])
        assert sorted(shape for *_, shape, _ in marks) == expected
    lr = {(x, shape): y for x, y, shape, _ in marks_of(figure.axes[1])}
    for row in frame.itertuples():
        y = lr[row.lr, STATUS_MARKERS[row.status]]
        # What has no finite result is at the upper edge, in parts of the axis.
        assert y == (pytest.approx(row.error) if np.isfinite(row.error) else 1.0)


def test_choices_are_at_their_own_place_and_batch_sizes_have_their_colour(made_up):
    figure = Figure()
    frame = trial_map(made_up.trials)
    plots.plot_by_hyperparameter(frame, varied(made_up), figure)
    ax = figure.axes[0]
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks == ["32", "64", "128", "256", "512", "1024"]
    by_size: dict[str, set] = {}
    for x, y, _, colour in marks_of(ax):
        if y < 1:
            by_size.setdefault(ticks[round(x)], set()).add(colour)
    assert set(by_size) == {"64", "512", "1024"}
    assert all(len(colours) == 1 for colours in by_size.values())


def test_a_hyperparameter_that_some_trials_lack():
    study = several_optimizers()
    frame, space = trial_map(study.trials), varied(study)
    figure = Figure()
    plots.plot_by_hyperparameter(frame, space, figure)
    panels = dict(zip(space, figure.axes, strict=True))
    has = frame["momentum"].notna()
    assert 0 < has.sum() < len(frame)
    drawn_x = [x for x, *_ in marks_of(panels["momentum"]) if np.isfinite(x)]
    assert sorted(drawn_x) == sorted(frame.loc[has, "momentum"])


def test_importance_shows_each_interval():
    frame = importance(several_optimizers())
    known = frame.dropna(subset="importance")
    assert 0 < len(known) < len(frame)  # momentum has too few trials
    ax = plots.plot_importance(frame, ax=Figure().subplots())
    (points,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert list(points.get_xdata()) == known["importance"].tolist()[::-1]
    assert ax.get_yticklabels()[-1].get_text() == "lr\nn = 60"
    segments = [tuple(segment[:, 0]) for segment in ax.collections[0].get_segments()]
    assert segments == list(zip(known["low"], known["high"], strict=True))[::-1]


def test_isolation_says_how_many_were_tried(made_up):
    frame, space = isolation(made_up), varied(made_up)
    figure = Figure()
    plots.plot_isolation(frame, space, figure)
    for name, ax in zip(space, figure.axes, strict=True):
        own = frame[frame["hyperparameter"] == name]
        assert [text.get_text() for text in ax.texts] == own["tried"].astype(str).tolist()
        known = own.dropna(subset="error")
        assert [line.get_ydata()[0] for line in ax.get_lines()] == known["error"].tolist()
        dashed = [line.get_linestyle() == "--" for line in ax.get_lines()]
        assert dashed == (known["best_status"] != "complete").tolist()
