"""Some of the damages of `test_damage`, done to real studies through the command line."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from study.results.tables import load_study
from tests.helpers import studies
from tests.helpers.studies import run

pytestmark = pytest.mark.slow
FIXED = [*studies.FIXED, "--epochs", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mnist):
    """A study of four trials and one of another seed."""
    here = tmp_path_factory.mktemp("finished")
    run(here, *FIXED, "--num-samples", "4", "--name", "n")
    run(here, *FIXED, "--num-samples", "2", "--seed", "2", "--name", "other")
    return here / "results"


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished / "n", tmp_path / "results" / "n")


def content_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_kept(folder, finished, num_trials):
    """Every value of the finished study is in the tables, and the new trials are complete."""
    results, before = load_study(folder), load_study(finished / "n")
    for name, count in (("trials", 4), ("epochs", 8), ("steps", 4 * 2 * 49)):
        table = getattr(results, name)
        pd.testing.assert_frame_equal(table[:count], getattr(before, name), check_exact=True)
    assert results.trials["status"].tolist() == ["complete"] * num_trials
    assert len(results.epochs) == 2 * num_trials
    assert len(results.steps) == 2 * 49 * num_trials


def refused(folder, *argv):
    """The one line with which a command refuses a folder. The folder must stay unchanged."""
    before = content_of(folder)
    out = run(folder.parents[1], "--resume", "results/n", *argv, status=2)
    assert out.count("\n") == 1
    assert content_of(folder) == before
    return out


def test_rays_folder_may_be_removed(folder, finished, tmp_path):
    shutil.rmtree(folder / "ray")
    run(tmp_path, "--resume", "results/n")
    assert_kept(folder, finished, 4)
    shutil.rmtree(folder / "ray")
    run(tmp_path, "--resume", "results/n", "--num-samples", "5")
    assert_kept(folder, finished, 5)


def test_an_emptied_history_is_made_good(folder, finished, tmp_path):
    history = folder / "histories" / "trial_00002.npz"
    history.write_bytes(b"")
    run(tmp_path, "--resume", "results/n", "--num-samples", "5")
    assert_kept(folder, finished, 5)
    assert history.stat().st_size > 0


@pytest.mark.parametrize("how", ["emptied", "removed", "of another study", "older"])
def test_a_lost_journal_is_reported(folder, finished, how):
    journal = folder / "optuna.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    content = {
        "emptied": b"",
        "of another study": (finished / "other" / "optuna.log").read_bytes(),
        "older": b"".join(lines[: len(lines) // 2]),
    }
    journal.write_bytes(content[how]) if how in content else journal.unlink()
    assert "optuna.log" in refused(folder, "--num-samples", "5")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"seed": 2},
        {"precision": "bf16"},
        {"sampler": "random"},
        {"num_samples": 3},
    ],
    ids=str,
)
def test_an_edited_configuration_is_reported(folder, change):
    file = folder / "study.json"
    content = json.loads(file.read_text())
    content["config"].update(change)
    file.write_text(json.dumps(content))
    out = refused(folder)
    assert "study.json" in out
    assert str(*change.values()) in out
