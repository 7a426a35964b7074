"""``study.finalize`` with Ray, real training and a driver that is killed."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

import study
from study.config.study import trial_seed
from study.results.final_model import final_model
from study.results.predictions import load_predictions
from study.results.tables import load_study
from tests.helpers import THOROUGH
from tests.helpers.studies import count_ended, count_epochs, finish, run, start, wait_until

pytestmark = pytest.mark.slow
SEARCH = [
    *("--num-samples", "3", "--epochs", "1", "--scheduler", "none", "--sampler", "random"),
    # More accurate after one epoch than the paper's batch size.
    *("--batch-size", "128", "--width-mult", "1", "--lr", "0.5", "1", "--name", "n"),
]
FINALIZE = ["results/n", "--budget", "6", "--replicates", "2"]


def confirm(process_of, here):
    return process_of(here, *FINALIZE, module="study.finalize")


def contents(here):
    """All that was measured in both studies, times aside, and the openings of the test set."""
    results = here / "results"
    frames = []
    for kind in ("finalists", "final"):
        confirmed = load_study(results / f"n-{kind}")
        arms = confirmed.trials[["trial_id", "arm", "replicate", "status", "seed"]]
        keys = ["arm", "replicate", "step"]
        steps = confirmed.steps.merge(arms, on="trial_id").drop(columns="trial_id")
        frames.append(steps.sort_values(keys).reset_index(drop=True))
    arms = load_study(results / "n-final").trials[["trial_id", "arm", "replicate"]]
    predictions = load_predictions(results / "n-final").astype({"trial_id": "string"})
    predictions = predictions.merge(arms, on="trial_id").drop(columns="trial_id")
    frames.append(predictions.sort_values(["arm", "replicate", "index"]).reset_index(drop=True))
    lines = (results / "n" / "test_set_openings.jsonl").read_text().splitlines()
    return frames, [json.loads(line)["reason"] for line in lines]


def test_a_confirmation_killed_at_any_moment(tmp_path, mnist):
    here, other = tmp_path / "undisturbed", tmp_path / "killed"
    here.mkdir()
    run(here, *SEARCH)
    shutil.copytree(here, other)
    out = confirm(run, here)
    assert "Round 2 of 2: 2 configurations" in out
    expected, opened = contents(here)
    assert len(opened) == 1
    models = sorted(path.name for path in (here / "results/n-final/models").iterdir())
    assert models == ["chosen-1", "chosen-2", "paper-1", "paper-2"]
    model = study.load_model(here / "results/n-final/models/chosen-1")
    assert model.config.seed == trial_seed(1, 1, "final")
    assert final_model(here / "results/n-final").config == model.config

    finalists, final = (other / "results" / f"n-{kind}" for kind in ("finalists", "final"))
    moments = [
        lambda: count_epochs(finalists) >= 1,
        lambda: count_ended(finalists) >= 5,  # in the second round
        (other / "results" / "n" / "test_set_openings.jsonl").exists,
        lambda: count_ended(final) >= 1,
        lambda: count_ended(final) >= 4,  # all of them
    ]
    for moment in moments if THOROUGH else moments[1:4:2]:
        process = confirm(start, other)
        wait_until(moment, process)
        process.kill()
        process.communicate()
    out = finish(confirm(start, other))
    assert confirm(run, other).splitlines()[-8:] == out.splitlines()[-8:]  # nothing is run again
    assert "gain, paired by seed" in out
    found, opened_too = contents(other)
    for one, two in zip(expected, found, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert opened_too == opened
