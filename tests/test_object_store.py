"""Real studies whose trials write to an object store: an S3 server on loopback."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from study.results.tables import load_study
from tests.helpers import studies
from tests.helpers.studies import (
    SMALL,
    assert_same_measurements,
    count_epochs,
    run,
    start,
    wait_until,
)

pytestmark = pytest.mark.slow
FIXED = [*studies.FIXED, "--epochs", "3", "--num-samples", "3"]


def test_a_study_outlives_its_drivers_machine(tmp_path, mnist, bucket):
    """The driver is killed and its disk is lost. Another machine continues and repeats nothing."""
    place = f"{bucket}/{tmp_path.name}"
    whole = run(tmp_path, *FIXED, "--name", "whole")
    assert "3 of 3 trials ended" in whole
    process = start(tmp_path, *FIXED, "--name", "cut", "--storage-path", place)
    folder = tmp_path / "results" / "cut"
    wait_until(lambda: count_epochs(folder) >= 3, process)
    process.kill()
    process.communicate()
    assert not (folder / "ray").exists()
    shutil.rmtree(folder)
    out = run(tmp_path, "--resume", f"{place}/cut")
    assert "3 of 3 trials ended" in out
    expected, found = load_study(tmp_path / "results" / "whole"), load_study(folder)
    assert_same_measurements(found, expected)
    assert len(found.study.sessions) == 2
    # The tables are in the store too, so that they can be analysed elsewhere.
    stored = pd.read_parquet(f"{place}/cut/trials.parquet")
    pd.testing.assert_frame_equal(stored, found.trials, check_dtype=False)
    # If the folder still exists, its name is enough.
    out = run(tmp_path, "--resume", "results/cut", "--num-samples", "4")
    assert "4 of 4 trials ended" in out


def test_what_is_no_study_there_is_refused(tmp_path, mnist, bucket):
    out = run(tmp_path, "--resume", f"{bucket}/nothing", status=2)
    assert out.startswith("error: s3://a-bucket/nothing: not a study")
    out = run(tmp_path, "--storage-path", "/a/folder", status=2)
    assert "use --results-dir" in out
    out = run(tmp_path, *SMALL, "--storage-path", "s3://no-such-bucket/x", status=2)
    assert "no bucket no-such-bucket" in out
    assert not (tmp_path / "results").exists()
