"""Studies of earlier versions are read, continued and extended.

`tests/formats` holds finished studies written by those versions, without Ray's own files and the
networks: ``2_search`` by commit 6738bd7, ``3_search`` and ``3_comparison`` by 7d01dfb. The
comparison was made by that version of `tests.helpers.simulated`.
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


def assert_same_tables(one, other):
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))


def test_every_format_that_is_read_is_tested():
    assert {format_of(KEPT / name) for name in STUDIES} == {*FORMAT_VERSIONS} - {
        FORMAT_VERSIONS[-1]
    }


def test_every_value_is_read(folder):
    study = load_study(folder)
    for table in TABLES:
        written = pd.read_parquet(folder / f"{table}.parquet").rename(columns=EARLIER_NAMES)
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
    columns = [
        *pd.read_parquet(folder / "trials.parquet"),
        *pd.read_parquet(folder / "epochs.parquet"),
    ]
    assert not {*EARLIER_NAMES} & {*columns}
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
    config = comparison_config(3, seed=4)
    assert replace(config, replicates=2) == StudyFile.read(folder).config
    after = run_study(folder, config, resume=True)
    assert_same_tables(after, run_study(tmp_path / "new", config))
    pd.testing.assert_frame_equal(load_predictions(folder), load_predictions(tmp_path / "new"))
