"""The main command as a Ray job."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from tests.helpers.nodes import RAY, Cluster, free_ports
from tests.helpers.studies import SMALL, assert_each_trial_once, count_epochs

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path, mnist):
    """Runs ``ray job …`` against a cluster. Returns its output."""
    (port,) = free_ports(1)
    head = (
        "--num-cpus=2",
        "--include-dashboard=true",
        f"--dashboard-port={port}",
        "--dashboard-host=127.0.0.1",
    )
    with Cluster(tmp_path, head=head) as cluster:

        def run(verb, *arguments):
            command = [RAY, "job", verb, "--address", f"http://127.0.0.1:{port}", *arguments]
            end = time.monotonic() + 60
            while True:
                process = cluster.popen(
                    command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                out, _ = process.communicate(timeout=300)
                # A head takes some seconds before it accepts jobs.
                if "No available agent" not in out or time.monotonic() > end:
                    assert process.returncode == 0, out
                    return out

        yield run


def test_the_main_command_as_a_job_stopped_and_continued(job, tmp_path):
    """Neither command names the cluster: Ray finds it."""
    folder = tmp_path / "results" / "n"
    command = ["--", sys.executable, "-m", "study.run"]
    new = ["--num-samples", "4", "--name", "n", "--results-dir", str(folder.parent), *SMALL]
    out = job("submit", "--no-wait", *command, *new)
    name = re.search(r"raysubmit_\w+", out)[0]
    end = time.monotonic() + 200
    while count_epochs(folder) < 2:
        assert time.monotonic() < end, job("logs", name)
        time.sleep(0.2)
    job("stop", name)
    out = job("submit", *command, "--resume", str(folder))
    assert "succeeded" in out
    assert "4 of 4 trials ended" in out
    results = assert_each_trial_once(folder, 4)
    assert results.study.sessions[0].address
