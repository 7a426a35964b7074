"""The course of a search against Ray's own rule and a plain recomputation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import course_frames as frames
from analysis.plots.course import plot_best_so_far, plot_survival
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.search.early_stopping import make_scheduler
from tests.conftest import write_study


def with_epochs(study, epochs, **fields):
    config = SearchConfig("a", space_to_json(DEFAULT_SPACE), epochs=epochs, **fields)
    return replace(study, study=replace(study.study, config=config))


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 9, 15, 27, 28, 81, 82, 243, 244])
def test_rungs_are_those_of_the_scheduler(made_up, epochs):
    study = with_epochs(made_up, epochs)
    scheduler = make_scheduler(study.study.config, [])
    theirs = sorted(milestone for milestone, _ in scheduler._brackets[0]._rungs)
    # A trial that has run all its epochs is complete; it is not judged.
    assert frames.rungs(study) == [rung for rung in theirs if rung < epochs]


def test_without_early_stopping_there_are_no_rungs(made_up):
    assert frames.rungs(with_epochs(made_up, 15, scheduler="none")) == []


def test_survival(made_up):
    got = frames.survival(made_up).set_index(["epoch", "batch_size"])
    assert sorted({epoch for epoch, _ in got.index}) == [1, 3]
    for (epoch, size), row in got.iterrows():
        own = made_up.epochs.merge(made_up.trials, on="trial_id")
        own = own[own["batch_size"] == size]
        assert row["reached"] == (own["epoch"] == epoch).sum()
    assert got["pruned"].groupby("epoch").sum().to_dict() == {1: 3, 3: 0}


def test_why_each_trial_was_stopped(tmp_path):
    trials = [("complete", 64, 0.1, 1.0, [a, a, a]) for a in (0.97, 0.96, 0.95, 0.94, 0.93)]
    trials += [("pruned", 64, 0.1, 1.0, [a]) for a in (0.9, 0.955, 0.965)]
    study = write_study(tmp_path, trials)
    got = frames.stopped(study)
    assert got["trial_id"].tolist() == ["trial_00007", "trial_00006", "trial_00005"]
    at_rung = study.epochs[study.epochs["epoch"] == 1].set_index("trial_id")["eval_accuracy"]
    for row in got.itertuples():
        others = at_rung.drop(row.trial_id)
        assert row.accuracy == at_rung[row.trial_id]
        assert row.cutoff == pytest.approx(np.quantile(others, 2 / 3))
        assert row.rank == at_rung.rank(ascending=False)[row.trial_id]
        assert row.reached == 8
    assert got["reason"].tolist() == [
        "rung 1: 96.50%, rank 2 of 8; it was below the best third when it was judged, but is not "
        "below that of the end, 95.50%",
        "rung 1: 95.50% < 96.00%, rank 4 of 8",
        "rung 1: 90.00% < 96.00%, rank 8 of 8",
    ]


def test_a_trial_that_was_stopped_elsewhere_or_alone(tmp_path):
    study = write_study(tmp_path, [("pruned", 64, 0.1, 1.0, [0.9, 0.91])])
    assert frames.stopped(study)["reason"].tolist() == [
        "epoch 2: not a rung of this version's rule"
    ]
    (tmp_path / "b").mkdir()
    study = write_study(tmp_path / "b", [("pruned", 64, 0.1, 1.0, [0.9])])
    assert frames.stopped(study)["reason"].tolist() == ["rung 1: 90.00%, rank 1 of 1"]


def test_nothing_was_stopped(fruitless):
    assert frames.stopped(fruitless).empty
    assert frames.survival(fruitless)["reached"].tolist() == [1, 0, 0, 0]


def test_the_figure_shows_every_count(made_up):
    frame = frames.survival(made_up)
    ax = plot_survival(frame, ax=Figure().subplots())
    heights = pd.Series([bar.get_height() for bar in ax.patches])
    assert sorted(heights) == sorted(frame["reached"])
    assert [text.get_text() for text in ax.texts] == ["8\n3 pruned", "3"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["epoch 1", "epoch 3"]


def test_best_so_far(made_up):
    shuffled = made_up.trials.iloc[::-1]
    got = frames.best_so_far(shuffled)
    assert got["trial_id"].tolist() == made_up.trials["trial_id"].tolist()
    best, seconds = np.nan, 0.0
    for trial, row in zip(made_up.trials.itertuples(), got.itertuples(), strict=True):
        seconds += trial.seconds
        if trial.status == "complete":
            best = np.nanmin([best, 1 - trial.last_eval_accuracy])
        assert row.best == pytest.approx(best)
        assert row.seconds == pytest.approx(seconds)
    assert got["number"].tolist() == list(range(1, 10))


def test_best_so_far_without_a_complete_trial(fruitless):
    assert frames.best_so_far(fruitless.trials)["best"].isna().all()


def test_the_line_is_the_best_so_far(made_up):
    frame = frames.best_so_far(made_up.trials)
    figure = Figure()
    plot_best_so_far(frame, figure)
    for ax, x in zip(figure.axes, ("number", "seconds"), strict=True):
        line = ax.get_lines()[0]
        assert list(line.get_xdata()) == frame[x].tolist()
        np.testing.assert_array_equal(line.get_ydata(), frame["best"])
