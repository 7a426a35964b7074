"""Each figure of what mattered shows what its frame holds, whatever the search holds."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.importance import importance
from analysis.mattered_frames import by_gamma_and_width, cells, isolation, place, varied
from analysis.plots import mattered as plots
from analysis.plots.cells import plot_cells
from analysis.plots.parallel import plot_parallel
from analysis.plots.style import STATUS_MARKERS, arm_styles
from analysis.render import drawn
from analysis.search_frames import trial_map
from analysis.sections.mattered import make_section
from study.config.hyperparameters import HYPERPARAMETERS
from study.config.space import default_space, distribution
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


@pytest.mark.parametrize("which", ["none", "one", "all", "several optimizers", "many", "equal"])
def test_every_figure_is_drawn_without_a_complaint(which, tmp_path, fruitless):
    study = {
        "none": lambda: fruitless,
        "one": lambda: write_study(tmp_path, TRIALS[:1]),
        "all": lambda: write_study(tmp_path, TRIALS),
        "several optimizers": several_optimizers,
        "many": lambda: planted(200, np.random.default_rng(1), lambda at: at["gamma"]),
        "equal": lambda: planted(40, np.random.default_rng(1), lambda at: 1.0),
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
    section = make_section(several_optimizers(), "")
    (exhibit,) = [each for each in section.exhibits if each.name == "importance"]
    assert "momentum" not in set(exhibit.frame["hyperparameter"])  # too few trials have it
    ax = plots.plot_importance(exhibit.frame, ax=Figure().subplots())
    assert ax.get_yticklabels()[-1].get_text() == "lr\nn = 60"
    of_methods = exhibit.frame.groupby("method", sort=False)
    assert len(of_methods) == 2
    for (_, own), bars, marker in zip(of_methods, ax.collections, "oD", strict=True):
        (points,) = [line for line in ax.get_lines() if line.get_marker() == marker]
        assert list(points.get_xdata()) == own["importance"].tolist()
        segments = [tuple(segment[:, 0]) for segment in bars.get_segments()]
        assert segments == list(zip(own["low"], own["high"], strict=True))
        # Both marks of a hyperparameter are at its name.
        ticks = [label.get_text().split("\n")[0] for label in ax.get_yticklabels()]
        at = [ticks[round(y)] for y in points.get_ydata()]
        assert at == [HYPERPARAMETERS[name].label for name in own["hyperparameter"]]


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


def test_learning_rates_are_apart_by_gamma_and_width():
    study = planted(80, np.random.default_rng(1), lambda at: 0.9 + 0.09 * at["lr"])
    frame, space = by_gamma_and_width(study), varied(study)
    figure = Figure()
    plots.plot_lr_by_batch_size(frame, space, figure)
    assert len(figure.axes) == 9
    panels = iter(figure.axes)
    for width in (0.5, 1.0, 2.0):
        for low, high in pairwise([0.5, 0.5 + 1 / 6, 0.5 + 1 / 3, 1.0]):
            own = study.trials[study.trials["gamma"].between(low, high)]
            own = own[own["width_mult"] == width]
            ax = next(panels)
            assert ax.get_title() == f"gamma {low:.2g} to {high:.2g}, width {width:g} ({len(own)})"
            assert sorted(x for x, *_ in marks_of(ax)) == sorted(own["lr"])
    # A batch size has one colour in all panels.
    colours = {style["color"] for style in arm_styles(frame["batch_size"]).values()}
    found = {colour for ax in figure.axes for *_, colour in marks_of(ax)}
    assert found == {to_rgb(colour) for colour in colours}


@pytest.mark.parametrize(("fixed", "panels"), [({"gamma": [0.7]}, 3), ({"width_mult": [1.0]}, 3)])
def test_what_is_fixed_needs_no_panels(fixed, panels):
    space = default_space("adadelta") | {n: distribution(n, v) for n, v in fixed.items()}
    study = planted(20, np.random.default_rng(1), lambda at: 0.9, space)
    figure = Figure()
    plots.plot_lr_by_batch_size(by_gamma_and_width(study), varied(study), figure)
    assert len(figure.axes) == panels
    assert sum(len(marks_of(ax)) for ax in figure.axes) == 20


def test_a_figure_that_would_repeat_another_is_left_out():
    fixed = {"gamma": [0.7], "width_mult": [1.0]}
    space = default_space("adadelta") | {n: distribution(n, v) for n, v in fixed.items()}
    study = planted(20, np.random.default_rng(1), lambda at: 0.9, space)
    names = [exhibit.name for exhibit in make_section(study, "").exhibits]
    assert "lr_by_batch_size" not in names
    assert "by_hyperparameter" in names


def test_a_line_for_every_trial_passes_where_its_values_are(made_up):
    frame, space = trial_map(made_up.trials), varied(made_up)
    figure = Figure()
    plot_parallel(frame, space, figure)
    (ax,) = figure.axes
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == len(space) + 1]
    assert len(lines) == len(frame)
    found = sorted(tuple(line.get_ydata()[:-1]) for line in lines)
    places = [place(frame[name], each) for name, each in space.items()]
    assert found == sorted(zip(*places, strict=True))
    complete = (frame["status"] == "complete").sum()
    assert sum(line.get_linestyle() == "-" for line in lines) == complete
    thick = [line.get_ydata()[-1] for line in lines if line.get_linewidth() == 3]
    others = [
        line.get_ydata()[-1]
        for line in lines
        if line.get_linestyle() == "-" and line.get_linewidth() < 3
    ]
    assert len(thick) == min(3, complete)
    assert max(thick) <= min([*others, 1.0])


def test_a_line_passes_at_none_where_its_trial_lacks_a_hyperparameter():
    study = several_optimizers()
    frame, space = trial_map(study.trials), varied(study)
    figure = Figure()
    plot_parallel(frame, space, figure)
    (ax,) = figure.axes
    x = list(space).index("momentum")
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == len(space) + 1]
    lacking = [line for line in lines if line.get_ydata()[x] < 0]
    assert len(lacking) == frame["momentum"].isna().sum()
    at_none = [text.xy[0] for text in ax.texts if text.get_text() == "none"]
    assert at_none == [x, x + 1]
    assert all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_parallel_axes_need_two_hyperparameters():
    fixed = {"batch_size": [64], "gamma": [0.7], "width_mult": [1.0]}
    space = default_space("adadelta") | {n: distribution(n, v) for n, v in fixed.items()}
    study = planted(40, np.random.default_rng(1), lambda at: at["lr"], space)
    names = [exhibit.name for exhibit in make_section(study, "").exhibits]
    assert "by_hyperparameter" in names
    assert not {"parallel", "cells"} & set(names)


def test_cells_hold_the_trials_that_they_count():
    study = planted(60, np.random.default_rng(1), lambda at: 0.9 + 0.05 * at["lr"])
    study.trials.loc[:20, "status"] = "pruned"
    names = ("lr", "batch_size")
    frame, trials = cells(study, *names), trial_map(study.trials)
    space = {name: varied(study)[name] for name in names}
    ax = plot_cells(frame, trials, space, ax=Figure().subplots())
    assert len(ax.patches) == len(ax.texts) == len(frame)
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines()]
    assert len(marks) == len(trials)
    for cell, box, text in zip(frame.itertuples(), ax.patches, ax.texts, strict=True):
        inside = [
            box.get_x() < x <= box.get_x() + box.get_width()
            and box.get_y() < y <= box.get_y() + box.get_height()
            for x, y in marks
        ]
        assert sum(inside) == cell.tried
        assert text.get_text() == f"{cell.complete} of {cell.tried}"
        assert bool(box.get_hatch()) == (cell.complete == 0)


def test_cells_are_of_the_two_most_important():
    study = planted(120, np.random.default_rng(2), lambda at: 0.9 + 0.09 * at["gamma"])
    (exhibit,) = [e for e in make_section(study, "").exhibits if e.name == "cells"]
    first, second = importance(study)["hyperparameter"].head(2)
    assert first == "gamma"
    labels = [HYPERPARAMETERS[name].label for name in (first, second)]
    assert exhibit.title == f"Error over {labels[0]} and {labels[1]}"
    assert exhibit.frame["tried"].sum() == 120


def test_nothing_was_varied():
    fixed = {"batch_size": [64], "lr": [1.0], "gamma": [0.7], "width_mult": [1.0]}
    space = {n: distribution(n, v) for n, v in fixed.items()}
    section = make_section(planted(5, np.random.default_rng(1), lambda at: 0.9, space), "")
    assert section.text == ["The search varied no hyperparameter."]
    assert [exhibit.name for exhibit in section.exhibits] == ["best_so_far"]


def test_what_is_too_rare_to_judge_is_named():
    section = make_section(several_optimizers(), "")
    caption = next(e.caption for e in section.exhibits if e.name == "importance")
    assert "Not shown, with fewer than 30 trials with a result: momentum and decay." in caption


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (10, "at least 30 with a result are needed"),
        (40, "overlaps another's, or reaches what chance explains (n = 40 trials)"),
    ],
)
def test_too_few_trials_are_said(trials, words):
    rng = np.random.default_rng(5)
    section = make_section(planted(trials, rng, lambda at: rng.random()), "")
    assert words in section.text[0]
    assert section.text[0].startswith("Too few trials to rank")


def test_what_matters_most_is_said_with_its_interval():
    study = planted(200, np.random.default_rng(2), lambda at: 0.9 + 0.09 * at["gamma"])
    row = importance(study).iloc[0]
    expected = f"gamma. Alone it explains {row.importance:.0%} [{row.low:.0%}, {row.high:.0%}]"
    assert expected in make_section(study, "").text[0]
