"""Overtuning: the search's last best trial against its earlier ones, with fresh seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from study.config.finalists import PAPER
from study.results.overtuning import overtuning

PAPERS = {"batch_size": 512, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}


def search_of(accuracies, ended=None):
    """Complete trials in the order given; the first has the paper's configuration."""
    count = len(accuracies)
    frame = pd.DataFrame({name: [value] * count for name, value in PAPERS.items()})
    frame["lr"] = [1.0, *np.linspace(0.1, 0.9, count - 1)]
    return frame.assign(
        trial_id=[f"trial_{i:05d}" for i in range(count)],
        status="complete",
        optimizer="adadelta",
        momentum=np.nan,
        weight_decay=np.nan,
        dropout_rate=np.nan,
        last_eval_accuracy=accuracies,
        last_eval_loss=0.1,
        ended=pd.to_datetime(ended or [None] * count, unit="s", utc=True),
    )


def runs_of(**accuracies):
    """The finalists' runs: the accuracy of each arm with each seed, in points below 100."""
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "replicate": i,
                "status": "complete",
                "last_eval_accuracy": 1 - below / 100,
            }
            for arm, each in accuracies.items()
            for i, below in enumerate(each, 1)
        ]
    )


def test_the_last_best_trial_against_the_best_of_the_earlier_ones():
    search = search_of([0.98, 0.97, 0.985, 0.99, 0.989])  # the best so far: 0, 2 and 3
    runs = runs_of(paper=[1.9], trial_00002=[1.0, 1.2, 1.1], trial_00003=[1.3, 1.3, 1.4, 0.1])
    found = overtuning(search, runs)
    assert (found.last, found.earlier) == ("trial_00003", "trial_00002")
    assert (found.best_ones, found.again) == (3, 3)
    assert found.difference.value == pytest.approx(-(0.3 + 0.1 + 0.3) / 3)
    assert found.difference.n == 3
    assert "-0.23 points [" in found.sentence()


def test_a_lower_loss_breaks_a_tie():
    search = search_of([0.98, 0.99, 0.99, 0.99]).assign(last_eval_loss=[0.3, 0.2, 0.1, 0.2])
    runs = runs_of(paper=[1.9], trial_00001=[1.0], trial_00002=[1.1], trial_00003=[0.5])
    found = overtuning(search, runs)
    assert (found.last, found.earlier, found.best_ones) == ("trial_00002", "trial_00001", 3)


def test_the_papers_configuration_is_an_earlier_best():
    found = overtuning(search_of([0.98, 0.99]), runs_of(paper=[1.2, 1.2], trial_00001=[1.0, 1.1]))
    assert found.earlier == PAPER
    assert found.difference.value == pytest.approx(0.15)


def test_the_order_is_that_in_which_they_ended():
    search = search_of([0.98, 0.99, 0.985], ended=[30, 20, 10])
    runs = runs_of(paper=[1.2], trial_00001=[1.0], trial_00002=[1.1])
    assert overtuning(search, runs).best_ones == 2  # trial 0 ended last, and was never the best


@pytest.mark.parametrize(
    ("accuracies", "runs"),
    [
        ([0.99, 0.98], {"paper": [1.0], "trial_00001": [1.1]}),  # there is no earlier one
        ([0.98, 0.99], {"trial_00001": [1.1]}),  # it did not run again
        ([0.98, 0.985, 0.99], {"paper": [1.0], "trial_00001": [1.1]}),  # the last did not
    ],
)
def test_without_a_pair_there_is_none(accuracies, runs):
    assert overtuning(search_of(accuracies), runs_of(**runs)) is None
