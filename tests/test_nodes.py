"""Studies on clusters of several nodes: separate Ray processes, real kills, cut cables."""

from __future__ import annotations

import sys

import pytest

from study.results.tables import load_study
from tests.helpers import studies
from tests.helpers.nodes import Cluster, kill_tree
from tests.helpers.studies import (
    ROOT,
    assert_each_trial_once,
    assert_same_measurements,
    count_epochs,
    finish,
    run,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.root]
FIXED = [*studies.FIXED, "--epochs", "4", "--num-samples", "4"]
CORE = ["--num-cpus=1"]
# Ends when the head considers one of the three nodes dead.
GIVEN_UP = """
import ray, sys, time
ray.init(address=sys.argv[1])
while sum(node["Alive"] for node in ray.nodes()) > 2:
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, mnist):
    """The tables of the undisturbed study."""
    here = tmp_path_factory.mktemp("uninterrupted")
    run(here, *FIXED, "--name", "n")
    return load_study(here / "results" / "n")


@pytest.fixture
def cluster(tmp_path, mnist):
    """A head without CPUs, and two nodes with a core each. Each has its own address."""
    with Cluster(tmp_path, network=True) as cluster:
        cluster.add("w1", *CORE)
        cluster.add("w2", *CORE)
        yield cluster


def assert_whole(here, uninterrupted):
    results = assert_each_trial_once(here / "results" / "n", 4, {"complete"})
    assert_same_measurements(results, uninterrupted)
    return results


def test_trials_take_a_core_each_and_spread_over_the_nodes(cluster, tmp_path, uninterrupted):
    out = finish(cluster.study(tmp_path, *FIXED, "--name", "n"))
    assert "2 trials at once (1 CPU core each) on 3 nodes" in out
    results = assert_whole(tmp_path, uninterrupted)
    assert set(results.trials["node"]) == {"w1", "w2"}


def test_a_node_killed_within_an_epoch(cluster, tmp_path, uninterrupted):
    process = cluster.study(tmp_path, *FIXED, "--name", "n")
    wait_until(lambda: count_epochs(tmp_path / "results" / "n") >= 3, process)
    cluster.kill("w2")
    finish(process)
    results = assert_whole(tmp_path, uninterrupted)
    assert set(results.trials["node"]) == {"w1"}  # of the last epoch


def test_a_cable_pulled_until_the_node_is_given_up(cluster, tmp_path, uninterrupted):
    """The lost node's trial continues elsewhere. Later results of that node are ignored."""
    process = cluster.study(tmp_path, *FIXED, "--name", "n")
    wait_until(lambda: count_epochs(tmp_path / "results" / "n") >= 3, process)
    cluster.cut("w2")
    assert cluster.popen([sys.executable, "-c", GIVEN_UP, cluster.address]).wait(180) == 0
    cluster.heal("w2")
    finish(process)
    assert_whole(tmp_path, uninterrupted)


def test_a_cable_pulled_for_a_moment(cluster, tmp_path, uninterrupted):
    process = cluster.study(tmp_path, *FIXED, "--name", "n")
    folder = tmp_path / "results" / "n"
    wait_until(lambda: count_epochs(folder) >= 3, process)
    cluster.cut("w2")
    before = count_epochs(folder)
    wait_until(lambda: count_epochs(folder) > before, process)
    cluster.heal("w2")
    finish(process)
    assert_whole(tmp_path, uninterrupted)


def test_a_lost_head(cluster, tmp_path, uninterrupted):
    """The head's machine is lost with the driver. A new head and the same command continue."""
    process = cluster.study(tmp_path, *FIXED, "--name", "n")
    wait_until(lambda: count_epochs(tmp_path / "results" / "n") >= 3, process)
    kill_tree(process)
    for name in ("head", "w1", "w2"):
        cluster.kill(name)
    cluster.start_head()
    cluster.add("w1", *CORE)
    out = finish(cluster.study(tmp_path, "--resume", "results/n"))
    assert "1 trial at once (1 CPU core each) on 2 nodes" in out
    assert_whole(tmp_path, uninterrupted)


def test_a_driver_whose_head_is_gone_ends(cluster, tmp_path, uninterrupted):
    """A driver on another machine does not wait forever, and the study can continue."""
    process = cluster.study(tmp_path, *FIXED, "--name", "n")
    wait_until(lambda: count_epochs(tmp_path / "results" / "n") >= 3, process)
    for name in ("w1", "w2", "head"):
        cluster.kill(name)
    process.communicate(timeout=180)
    assert process.returncode != 0
    run(tmp_path, "--resume", "results/n")  # without the cluster: on this machine
    assert_whole(tmp_path, uninterrupted)


def test_what_a_node_lacks_is_reported_before_the_first_trial(tmp_path, mnist):
    """One node lacks the package. One has another Optuna and no shared folder. One offers Ray a
    GPU that is not there.
    """
    (tmp_path / "other" / "optuna-4.0.0.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: optuna\nVersion: 4.0.0\n"
    (tmp_path / "other" / "optuna-4.0.0.dist-info" / "METADATA").write_text(metadata)
    (tmp_path / "results").mkdir()
    with Cluster(tmp_path, network=True) as cluster:
        cluster.add("w1", *CORE, prepare=f"mount -t tmpfs none {ROOT}/study")
        cluster.add(
            "w2",
            *CORE,
            prepare=f"mount -t tmpfs none {tmp_path}/results && "
            f"export PYTHONPATH={tmp_path}/other:$PYTHONPATH",
        )
        cluster.add("w3", *CORE, "--num-gpus=1", prepare="export CUDA_VISIBLE_DEVICES=-1")
        out = finish(cluster.study(tmp_path, *FIXED, "--name", "n"), status=2)
    first, second, third, fourth = out.splitlines()
    assert first.startswith("error: node 10.77.0.2: cannot import this package (ModuleNotFound")
    assert second.startswith("error: node 10.77.0.3: optuna is 4.0.0 there and ")
    assert third.startswith(f"error: node 10.77.0.3: does not see {tmp_path}/results; ")
    assert fourth.startswith(
        "error: node 10.77.0.4: Ray sees a GPU there, but torch cannot use it ("
    )
    assert fourth.endswith("); fix that, or train on CPU cores with --gpus-per-trial 0")
    assert list((tmp_path / "results").iterdir()) == []
