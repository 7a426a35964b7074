"""Searches and comparisons from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import study
from study.console.errors import UserError
from tests.helpers.commands import play_ray

SMALL = {"num_samples": 3, "scheduler": "none", "sampler": "random", "epochs": 3}


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, tmp_path):
    play_ray(monkeypatch, tmp_path)


def test_a_search_is_run_and_extended():
    results = study.run_search(**SMALL, batch_size=[64, 512], lr=0.5)
    assert len(results.trials) == 3
    assert set(results.trials["batch_size"]) <= {64, 512}
    assert results.path.parent.name == "results"
    more = study.run_search(resume=results.path, num_samples=4)
    assert more.path == results.path
    assert more.trials["trial_id"].tolist()[:3] == results.trials["trial_id"].tolist()
    assert len(study.load_study(results.path).trials) == 4


def test_a_comparison_is_run():
    results = study.run_comparison(
        "batch-size", arms=["64", "512"], replicates=2, epochs=3, name="a"
    )
    assert len(results.trials) == 4
    assert results.path == Path("results/a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"epoch": 3}, "did you mean '--epochs'"),
        ({"num_samples": "many"}, "--num-samples"),
        ({"epochs": "-1"}, "--epochs"),
        ({"resume": "results/none"}, "results/none"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, words, capsys):
    with pytest.raises(UserError, match=words) as refused:
        study.run_search(**options)
    assert "\n" not in str(refused.value)
    assert not Path("results").exists()


def test_what_the_package_offers_is_there():
    for name in study.__all__:
        assert callable(getattr(study, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        study.nothing  # noqa: B018
