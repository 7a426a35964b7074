"""Ray's autoscaler with the node types of ray_cluster.yaml, on simulated machines."""

from __future__ import annotations

import time

import psutil
import pytest
import yaml

from study.data.sources import default_data_dir
from tests.helpers import studies
from tests.helpers.nodes import NO_TRIALS, Cluster
from tests.helpers.studies import ROOT, assert_each_trial_once, finish

pytestmark = pytest.mark.slow
FIXED = [*studies.FIXED, "--epochs", "8", "--num-samples", "4"]


def fake_cluster(port):
    """The cluster file with Ray's fake provider, whose machines are processes on this one."""
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    types = config["available_node_types"]
    types["ray.head.default"] = types.pop("head")  # the name that the fake provider knows
    for node_type in types.values():
        node_type["node_config"] = {}
    return {
        "cluster_name": "fake",
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": "f" * 51 + "00000",
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": types,
        "max_workers": config["max_workers"],
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "file_mounts_sync_continuously": False,
        # Do nothing on machines that do not exist.
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def count_nodes(cluster):
    children = psutil.Process(cluster.nodes["head"].pid).children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return sum(child.name() == "raylet" for child in alive)


def test_waiting_trials_start_workers_and_idle_ones_go(tmp_path, mnist):
    file = tmp_path / "ray_bootstrap_config.yaml"
    environment = {
        "HOME": str(tmp_path),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    head = (*NO_TRIALS, f"--autoscaling-config={file}")
    cluster = Cluster(tmp_path, head=head, environment=environment)
    file.write_text(yaml.safe_dump(fake_cluster(cluster.port)))
    with cluster:
        assert count_nodes(cluster) == 1
        process = cluster.study(
            tmp_path,
            *FIXED,
            "--name",
            "n",
            "--max-concurrent",
            "2",
            "--data-dir",
            str(default_data_dir()),
        )
        most = 1
        while process.poll() is None:
            most = max(most, count_nodes(cluster))
            time.sleep(0.5)
        out = finish(process)
        assert "2 trials at once (1 GPU each) on 1 node now; more start as trials wait" in out
        assert_each_trial_once(tmp_path / "results" / "n", 4, {"complete"})
        # One machine per trial. One more may start while a trial's own machine is not up yet.
        assert 3 <= most <= 4
        end = time.monotonic() + 120
        while count_nodes(cluster) > 1:
            assert time.monotonic() < end, "idle workers stay"
            time.sleep(0.5)
