"""The command study.compare: its answers to bad input, and real comparisons through Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import compare
from study.compare import make_parser, new_config
from study.config.trial import TrialConfig
from study.data.images import load_training_images, open_test_set
from study.data.sources import default_data_dir
from study.results.predictions import LOG_P_COLUMNS, PREDICTION_COLUMNS, load_predictions
from study.results.tables import load_study
from study.training.epoch import TIMES
from study.training.trainer import Trainer
from tests.helpers.compared import study_content

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    """Run; assert exit 2 and one clear line on stderr; return the line."""
    try:
        status = compare.main([*argv])
    except SystemExit as error:
        status = error.code
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["NAME is missing", "batch-size, models"]),
        (["batchsize"], ["did you mean 'batch-size'"]),
        (["none.toml"], ["none.toml", "no such file"]),
        (["batch-size", "--arms", "128"], ["--arms", "'128'", "32, 64, 512"]),
        (["batch-size", "--replicates", "0"], ["--replicates", "0"]),
        (["batch-size", "--replicates", "x"], ["--replicates", "x", "study.compare --help"]),
        (["batch-size", "--epochs", "-1"], ["--epochs", "-1"]),
        (["batch-size", "--protocol", "test"], ["--protocol", "test", "split, paper"]),
        (["batch-size", "--name", "a/b"], ["--name", "a/b"]),
        (["batch-size", "--max-concurrent", "0"], ["--max-concurrent", "0"]),
        (["--resume", "results/none"], ["results/none", "not a study"]),
        (["."], ["unknown comparison '.'"]),
        ([""], ["''", "empty"]),
        (["a\n\x1b[31m.toml"], [r"a\n\x1b[31m.toml"]),
        (["x" * 5000], ["unknown comparison"]),
        (["batch-size", "--arms", "a\tb"], [r"'a\tb'"]),
        (["batch-size", "--replicates", "9" * 400], ["--replicates", "large"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_bad_options_are_refused_and_nothing_is_written(here, capsys, argv, words):
    line = refused(capsys, *argv)
    assert all(word in line for word in words)
    assert not list(here.iterdir())


@pytest.fixture
def made(here):
    config = new_config(make_parser().parse_args(["schedule", "--name", "a", "--replicates", "2"]))
    folder = here / "results" / "a"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(study_content(config)))
    return config


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--epochs", "4"], "was made with 15"),
        (["--protocol", "paper"], "was made with 'split'"),
        (["--replicates", "1"], "has 2; give at least that many"),
        (["--arms", "gamma-1"], "the arms of results/a are fixed"),
        (["schedule"], "the arms of results/a are fixed"),
        (["--name", "b"], "is named 'a'"),
    ],
)
def test_resuming_with_something_else_is_refused(made, capsys, argv, words):
    assert words in refused(capsys, "--resume", "results/a", *argv)


def test_a_comparison_is_not_a_search(made, capsys):
    from study import run

    assert run.main(["--resume", "results/a"]) == 2
    assert "python -m study.compare --resume results/a" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        compare.main(["--help"])
    text = capsys.readouterr().out
    assert "python -m study.compare batch-size" in text
    assert "[arms.sgd]" in text
    assert "only if asked for: 6000" in text


# Real comparisons.


def start(here, *argv):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "study.compare", *argv],
        cwd=here,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(here, *argv):
    process = start(here, *argv)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    assert "Traceback" not in out
    return out


MINE = """
[defaults]
width_mult = 0.5
[arms.large]
batch_size = 1024
[arms.few]
batch_size = 1024
train_examples = 5000
batch_norm = true
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mnist):
    """One comparison by the paper's protocol. Returns (folder it ran in, output)."""
    here = tmp_path_factory.mktemp("compared")
    (here / "mine.toml").write_text(MINE)
    options = ("--replicates", "2", "--epochs", "2", "--protocol", "paper", "--name", "a")
    return here, run(here, "mine.toml", *options)


@pytest.mark.slow
def test_every_arm_and_replicate_is_in_the_tables(finished):
    here, out = finished
    results = load_study(here / "results" / "a")
    trials = results.trials
    assert (trials["status"] == "complete").all()
    assert trials[["arm", "replicate"]].apply(tuple, axis=1).tolist() == [
        ("large", 1),
        ("few", 1),
        ("large", 2),
        ("few", 2),
    ]
    assert trials.groupby("replicate")["seed"].nunique().eq(1).all()
    assert trials["train_examples"].tolist() == [60_000, 5_000] * 2
    assert trials["batch_norm"].tolist() == [False, True] * 2
    assert (results.epochs.groupby("trial_id").size() == 2).all()
    assert (results.epochs["grad_sq_small"] > results.epochs["grad_sq_big"]).all()
    assert results.study.evaluated == "test"
    assert set(trials["evaluated"]) == {"test"}
    openings = (here / "results" / "a" / "test_set_openings.jsonl").read_text().splitlines()
    assert len(openings) == 1
    assert "On the test images" in out
    assert "python -m study.compare --resume results/a --replicates 4" in out


@pytest.mark.slow
def test_predictions_are_those_of_the_final_models(finished):
    results = load_study(finished[0] / "results" / "a")
    predictions = load_predictions(results.path)
    assert dict(predictions.dtypes.astype(str)) == PREDICTION_COLUMNS
    right = predictions["label"] == predictions["predicted"]
    accuracy = right.groupby(predictions["trial_id"], observed=True).mean()
    expected = results.trials.set_index("trial_id")["last_eval_accuracy"]
    np.testing.assert_allclose(accuracy[expected.index], expected)
    assert (predictions.groupby("trial_id", observed=True)["index"].nunique() == 10_000).all()
    total = np.exp(predictions[list(LOG_P_COLUMNS)].astype(float)).sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=0.01)  # float16


@pytest.mark.slow
def test_a_trial_is_the_engines_run_bit_for_bit(finished, tmp_path):
    results = load_study(finished[0] / "results" / "a")
    row = results.trials.iloc[0]
    config = TrialConfig(
        batch_size=1024, width_mult=0.5, epochs=2, seed=int(row["seed"]), precision="auto"
    )
    train = load_training_images("mnist", default_data_dir())
    test = open_test_set(
        "mnist", default_data_dir(), record=tmp_path / "openings", reason="a test of the engine"
    )
    trainer = Trainer(config, train, test)
    losses = np.concatenate([(trainer.run_epoch(), trainer.step_losses[-1])[1] for _ in range(2)])
    steps = results.steps[results.steps["trial_id"] == row["trial_id"]]
    np.testing.assert_array_equal(steps["loss"].astype(np.float32), losses)
    assert trainer.epochs[-1].eval_accuracy == row["last_eval_accuracy"]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_ends_as_if_nothing_had_happened(finished, here):
    (here / "mine.toml").write_text(MINE)
    options = ("--replicates", "1", "--epochs", "2", "--protocol", "paper", "--name", "a")
    process = start(here, "mine.toml", *options)
    folder = here / "results" / "a"
    end = time.monotonic() + 200
    while not list(folder.glob("ray/*/checkpoint_*")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(here, "--resume", "results/a", "--replicates", "2")
    ours, theirs = load_study(folder), load_study(finished[0] / "results" / "a")
    volatile = ["seconds", "started", "ended", *TIMES]
    for name in ("trials", "epochs", "steps"):
        a, b = (getattr(r, name).drop(columns=volatile, errors="ignore") for r in (ours, theirs))
        keys = [c for c in ("trial_id", "epoch", "step") if c in a]
        pd.testing.assert_frame_equal(
            a.sort_values(keys, ignore_index=True), b.sort_values(keys, ignore_index=True)
        )
    pd.testing.assert_frame_equal(
        load_predictions(folder), load_predictions(theirs.path), check_categorical=False
    )
