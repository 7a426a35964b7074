"""The tuning curve of a random search, and for which searches there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import tuning_curve as module
from analysis.sections.mattered import make_section
from analysis.tuning_curve import tuning_curve
from tests.helpers.planted import planted


def random_search(count, accuracy, sampler="random", scheduler="none"):
    study = planted(count, np.random.default_rng(1), accuracy)
    config = replace(study.study.config, sampler=sampler, scheduler=scheduler, epochs=15)
    return replace(study, study=replace(study.study, config=config))


def best_of(trials):
    return 1 - 0.5 ** (1 / trials)  # the median of the least of so many uniform numbers


def test_the_band_holds_the_true_curve():
    rng = np.random.default_rng(5)
    held = []
    for _ in range(10):
        frame = tuning_curve(random_search(31, lambda at: 1 - rng.random()))
        assert frame["trials"].tolist() == list(range(1, 31))
        assert (frame["low"] <= frame["median"]).all()
        assert (frame["median"] <= frame["high"]).all()
        true = best_of(frame["trials"])
        held.append(((frame["low"] <= true) & (true <= frame["high"])).all())
    assert sum(held) >= 8


def test_the_band_of_more_trials_is_narrower():
    rng = np.random.default_rng(5)
    few, many = (
        tuning_curve(random_search(n, lambda at: 1 - rng.random())).iloc[4] for n in (11, 81)
    )
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_only_draws_that_ended_count():
    study = random_search(20, lambda at: 0.9)  # equal errors are no obstacle
    study.trials.loc[0, "last_eval_accuracy"] = 0.5  # the paper's configuration
    study.trials.loc[1, "status"] = "interrupted"
    study.trials.loc[2, "status"] = "failed"
    study.trials.loc[3, "status"] = "diverged"
    study.trials.loc[3, "last_eval_accuracy"] = np.nan
    frame = tuning_curve(study)
    assert len(frame) == 17
    assert frame["median"].tolist() == pytest.approx([0.1] * 17)


def test_the_number_of_trials_is_capped(monkeypatch):
    monkeypatch.setattr(module, "MOST_TRIALS", 12)
    assert len(tuning_curve(random_search(30, lambda at: at["lr"]))) == 12


@pytest.mark.parametrize(
    ("count", "sampler", "scheduler", "drawn"),
    [
        (20, "random", "none", True),
        (20, "random", "asha", False),
        (20, "tpe", "none", False),
        (20, "qmc", "none", False),
        (2, "random", "none", False),  # the first is no draw
    ],
)
def test_only_independent_draws_have_a_curve(count, sampler, scheduler, drawn):
    section = make_section(random_search(count, lambda at: at["lr"], sampler, scheduler), "")
    captions = {exhibit.name: exhibit.caption for exhibit in section.exhibits}
    assert ("tuning_curve" in captions) == drawn
    independent = (sampler, scheduler) == ("random", "none")
    assert ("needs independent draws" in captions["best_so_far"]) != independent


@pytest.mark.parametrize("count", [3, 6])
def test_a_short_search_is_drawn(count):
    study = random_search(count, lambda at: 0.9 + 0.05 * at["lr"])
    section = make_section(study, "")
    (drawn,) = [exhibit for exhibit in section.exhibits if exhibit.name == "tuning_curve"]
    drawn.draw(Figure())
