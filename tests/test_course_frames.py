"""The course of a search against Ray's own rule and a plain recomputation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import course_frames as frames
from analysis.plots.course import plot_best_so_far, plot_survival, plot_timeline
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


def ran(study, times):
    """`study` with the epochs of its trials at `times`: (trial, epoch) -> (begin, end)."""
    epochs = study.epochs.set_index(["trial_id", "epoch"]).loc[[*times]].reset_index()
    begin, end = np.array([*times.values()], float).T
    epochs["epoch_seconds"] = end - begin
    epochs["epoch_ended"] = pd.to_datetime(end, unit="s", utc=True).as_unit("ms")
    return replace(study, epochs=epochs)


def test_timeline(made_up):
    a, b, c = made_up.trials.loc[made_up.trials["epochs_run"] == 3, "trial_id"].iloc[:3]
    times = {
        (a, 1): (1000, 1100),
        (a, 2): (1100, 1200),
        (b, 1): (1005, 1050),
        (c, 1): (1055, 1195),  # in the slot that b has left
        (a, 3): (9200, 9300),  # in the next session: nothing ran from 1200 to 9200
    }
    got = frames.timeline(ran(made_up, times))
    hours = got[["start", "end"]].to_numpy() * 3600
    expected = {a: [0, 200], b: [5, 50], c: [55, 195]}
    assert got["trial_id"].tolist() == [a, b, c, a]
    for trial_id, own in zip(got["trial_id"][:3], hours, strict=False):
        np.testing.assert_allclose(own, expected[trial_id])
    np.testing.assert_allclose(hours[3], [200, 300])
    assert got["slot"].tolist() == [0, 1, 1, 0]


def test_a_timeline_has_a_row_for_each_slot_of_each_node(made_up):
    a, b, c = made_up.trials.loc[made_up.trials["epochs_run"] == 3, "trial_id"].iloc[:3]
    study = ran(made_up, {(a, 1): (0, 10), (b, 1): (0, 10), (c, 1): (20, 30)})
    node = study.trials["trial_id"].map({a: "n1", b: "n2", c: "n2"}).astype("string")
    frame = frames.timeline(replace(study, trials=study.trials.assign(node=node)))
    assert frame["slot"].tolist() == [0, 1, 1]
    ax = plot_timeline(frame, ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["n1, slot 1", "n2, slot 2"]


def test_a_bar_is_as_long_as_its_trial_ran(made_up):
    frame = frames.timeline(made_up)
    assert len(frame) == (made_up.trials["epochs_run"] > 0).sum()
    ax = plot_timeline(frame, ax=Figure().subplots())
    lengths = sorted(bar.get_width() for bars in ax.containers for bar in bars)
    np.testing.assert_allclose(lengths, sorted(60 * (frame["end"] - frame["start"])))


def test_a_study_that_does_not_say_when_has_no_timeline(made_up):
    unknown = made_up.epochs.assign(epoch_ended=made_up.epochs["epoch_ended"] + pd.NaT)
    assert frames.timeline(replace(made_up, epochs=unknown)).empty
