"""Studies of earlier versions are read, continued and extended.

`tests/formats` holds finished studies as these versions wrote them, without Ray's own files and
the networks: ``2_search`` by commit 6738bd7, ``3_search`` and ``3_comparison`` by 7d01dfb,
``4_search`` and ``4_comparison`` by 55a6182, ``5_search`` and ``5_comparison`` by 5e07b61. All but
``2_search`` and ``3_search`` were made by that version of `tests.helpers.simulated`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from study.config.comparison import ComparisonConfig
from study.config.search import SearchConfig
from study.config.study import trial_seed
from study.results.predictions import load_predictions
from study.results.study_file import FORMAT_VERSIONS, StudyFile
from study.results.tables import load_study
from study.training.epoch import EARLIER_NAMES
from tests.helpers.simulated import assert_nothing_lost, comparison_config, run_study

KEPT = Path(__file__).with_name("formats")
STUDIES = sorted(path.name for path in KEPT.iterdir())
TABLES = ("trials", "epochs", "steps")
pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture(params=STUDIES)
def folder(request, tmp_path):
    return shutil.copytree(KEPT / request.param, tmp_path / request.param)


def format_of(folder):
    return json.loads((folder / "study.json").read_text())["format_version"]


def assert_same_tables(one, other, besides=()):
    for table in TABLES:
        a, b = (getattr(of, table).drop(columns=besides, errors="ignore") for of in (one, other))
        pd.testing.assert_frame_equal(a, b)


def test_every_format_that_is_read_is_tested():
    assert {format_of(KEPT / name) for name in STUDIES} == {*FORMAT_VERSIONS} - {
        FORMAT_VERSIONS[-1]
    }


def test_every_value_is_read(folder):
    study = load_study(folder)
    for table in TABLES:
        written = pd.read_parquet(folder / f"{table}.parquet")
        written = written.rename(columns=EARLIER_NAMES.get(table, {}))
        read = getattr(study, table)
        assert len(read) == len(written) > 0
        pd.testing.assert_frame_equal(read[list(written)], written)
    assert study.trials["evaluated"].eq("validation").all()


def test_what_was_evaluated_on_the_test_images_says_so():
    paper = Path(__file__).parents[1] / "results" / "paper" / "batch-size"
    assert format_of(paper) < FORMAT_VERSIONS[-1]
    assert load_study(paper).trials["evaluated"].eq("test").all()


def test_a_resumed_study_is_of_todays_format_with_every_value(folder):
    before = load_study(folder)
    after = run_study(folder, StudyFile.read(folder).config, resume=True)
    assert format_of(folder) == FORMAT_VERSIONS[-1]
    assert_same_tables(before, after)
    for table, names in EARLIER_NAMES.items():
        assert not {*names} & {*pd.read_parquet(folder / f"{table}.parquet")}
    assert len(after.study.sessions) == len(before.study.sessions) + 1


def test_lost_tables_are_written_again_from_the_histories(folder):
    before = load_study(folder)
    for table in TABLES:
        (folder / f"{table}.parquet").unlink()
    assert_same_tables(before, run_study(folder, StudyFile.read(folder).config, resume=True))


def test_an_extended_study_keeps_what_it_had(folder):
    before = load_study(folder)
    config = before.study.config
    if isinstance(config, SearchConfig):
        larger = replace(config, num_samples=6)
    else:
        assert isinstance(config, ComparisonConfig)
        larger = replace(config, replicates=3)
    after = run_study(folder, larger, resume=True)
    assert_nothing_lost(before, after, {})
    assert len(after.trials) == 6
    assert after.trials["trial_id"].is_unique


def test_an_extended_comparison_is_a_new_one_bit_for_bit(tmp_path):
    folder = shutil.copytree(KEPT / "3_comparison", tmp_path / "old")
    config = comparison_config(3, seed=4, seeds="shared")  # as all comparisons before format 5
    assert replace(config, replicates=2) == StudyFile.read(folder).config
    after = run_study(folder, config, resume=True)
    # Format 3 does not say when a trial ran.
    when = ["started", "ended", "epoch_ended"]
    assert_same_tables(after, run_study(tmp_path / "new", config), besides=when)
    pd.testing.assert_frame_equal(load_predictions(folder), load_predictions(tmp_path / "new"))


def test_an_earlier_comparison_keeps_its_seeds(tmp_path):
    folder = shutil.copytree(KEPT / "4_comparison", tmp_path / "old")
    before = load_study(folder).trials
    run_study(folder, StudyFile.read(folder).config, resume=True)
    config = replace(StudyFile.read(folder).config, replicates=3)  # a file of today's format now
    after = run_study(folder, config, resume=True).trials
    assert after["seed"].tolist()[:4] == before["seed"].tolist()
    assert after["seed"].tolist()[4:] == [trial_seed(config.seed, 3)] * 2
