from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from study.cluster import joining
from study.console.errors import UserError


@pytest.fixture
def nodes(monkeypatch):
    """Pretend to be on a cluster of these nodes."""

    def on(*resources):
        alive = [{"Alive": True, "Resources": r} for r in resources]
        dead = {"Alive": False, "Resources": {"CPU": 99, "GPU": 99}}
        monkeypatch.setattr(joining.ray, "nodes", lambda: [*alive, dead])

    return on


@pytest.mark.parametrize(
    ("resources", "gpus_per_trial", "count"),
    [
        ([{"CPU": 2}], None, 2),
        ([{"CPU": 4}, {"CPU": 8}], None, 12),
        ([{"CPU": 8, "GPU": 2}], None, 2),  # one GPU per trial if there are any
        ([{}, {"CPU": 4, "GPU": 1}, {"CPU": 4, "GPU": 1}], None, 2),  # a head without CPU
        ([{"CPU": 8, "GPU": 1}], 0.25, 4),
        ([{"CPU": 16, "GPU": 1}], 0.1, 10),
        ([{"CPU": 2, "GPU": 1}], 0.25, 2),  # one core each
        ([{"CPU": 8, "GPU": 3}], 2, 1),
        ([{"CPU": 8, "GPU": 1}], 0, 8),
    ],
)
def test_as_many_trials_as_fit(nodes, resources, gpus_per_trial, count):
    nodes(*resources)
    assert joining.plan_slots(gpus_per_trial, None, elastic=False).count == count
    assert joining.plan_slots(gpus_per_trial, 1, elastic=False).count == 1
    assert joining.plan_slots(gpus_per_trial, 99, elastic=False).count == count


@pytest.mark.parametrize(
    ("resources", "gpus_per_trial", "reason"),
    [
        ([{"CPU": 2}], 1, "--gpus-per-trial: 1 GPU asked for, but Ray sees none"),
        ([{"CPU": 2, "GPU": 1}], 2, "2 GPU asked for, but the largest node has 1"),
        ([{"CPU": 2, "GPU": 2}], 1.5, "neither a fraction"),
        ([{}], None, "no node of the cluster has a CPU core"),
    ],
)
def test_trials_that_fit_nowhere_are_refused(nodes, resources, gpus_per_trial, reason):
    nodes(*resources)
    with pytest.raises(UserError, match=reason):
        joining.plan_slots(gpus_per_trial, None, elastic=False)


def test_description(nodes):
    nodes({"CPU": 2})
    assert joining.plan_slots(None, None, elastic=False).describe() == (
        "2 trials at once (1 CPU core each) on 1 node"
    )


AT_MOST = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, max_workers: 0}
  gpu: {resources: {CPU: 4, GPU: 1}, min_workers: 0, max_workers: 2}
  large: {resources: {CPU: 8, GPU: 4}}
"""


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """Pretend to be on the head of a cluster that ``ray up`` made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ray_bootstrap_config.yaml").write_text(AT_MOST)


def test_nodes_that_can_still_start_count(nodes, launched):
    nodes({})  # only the head
    slots = joining.plan_slots(None, None, elastic=True)
    assert (slots.gpus_per_trial, slots.count, slots.nodes) == (1, 2 + 4, 1)
    assert slots.describe() == (
        "6 trials at once (1 GPU each) on 1 node now; more start as trials wait"
    )
    assert joining.plan_slots(None, 4, elastic=True).count == 4
    assert joining.plan_slots(4, None, elastic=True).count == 1
    with pytest.raises(UserError, match="8 GPU asked for, but the largest node has 4"):
        joining.plan_slots(8, None, elastic=True)
    with pytest.raises(UserError, match="no node of the cluster has a CPU core"):
        joining.plan_slots(None, None, elastic=False)


def test_a_cluster_that_is_all_up_does_not_grow(nodes, launched):
    workers = [{"CPU": 4, "GPU": 1}, {"CPU": 4, "GPU": 1}, {"CPU": 8, "GPU": 4}]
    nodes({}, *workers)
    slots = joining.plan_slots(None, None, elastic=True)
    assert (slots.count, slots.nodes, slots.grows) == (6, 4, False)


def test_more_trials_than_fit_make_a_cluster_grow(nodes):
    """If it is not known how far the cluster can grow, the user decides."""
    nodes({"CPU": 4, "GPU": 1})
    slots = joining.plan_slots(None, 8, elastic=True)
    assert (slots.count, slots.grows) == (8, True)


@pytest.mark.parametrize(
    "address", ["localhost", "ray://", "host:port", "ray://:10001", "ray://[::1", ""]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UserError, match="is not an address"):
        joining.connect(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_silent_address_is_refused_at_once(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # bound, but nobody listens
        with pytest.raises(UserError, match=f"nothing answers at '{scheme}127.0.0.1:{port}'"):
            joining.connect(f"{scheme}127.0.0.1:{port}")


def test_auto_without_a_cluster_is_refused(monkeypatch):
    def nobody(**options):
        raise ConnectionError("Could not find any running Ray instance.\nDetails")

    monkeypatch.setattr(joining.ray, "init", nobody)
    with pytest.raises(UserError, match="cannot join a Ray cluster at 'auto'") as error:
        joining.connect("auto")
    assert "\n" not in str(error.value)


def test_a_local_ray_listens_on_loopback_only(monkeypatch):
    asked = {}
    monkeypatch.setattr(joining.ray, "init", lambda **options: asked.update(options))
    joining.connect(None)
    assert asked["_node_ip_address"] == "127.0.0.1"
    assert asked["include_dashboard"] is False
    assert asked["address"] == "local", "not what somebody's ray_current_cluster names"


@pytest.fixture
def temporary(monkeypatch):
    """A temporary folder whose path is as short as the system's."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(joining.sys, "platform", "linux")
    yield folder
    shutil.rmtree(folder)


def test_a_local_ray_has_a_folder_that_nobody_else_can_enter(temporary):
    found = joining.private_folder()
    assert found == temporary / f"ray-{os.getuid()}" == joining.private_folder()
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["open", "link", "dangling", "file"])
def test_a_folder_that_is_not_ours_alone_is_left_for_another(temporary, kind):
    planted, other = temporary / f"ray-{os.getuid()}", temporary / "other"
    if kind == "open":
        planted.mkdir()
        planted.chmod(0o777)
    elif kind == "file":
        planted.touch()
    else:
        planted.symlink_to(other)
        if kind == "link":
            other.mkdir(mode=0o700)
    found = joining.private_folder()
    assert found not in (planted, other)
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_left_for_another(temporary, monkeypatch):
    planted = joining.private_folder()
    real = Path.lstat
    nobody = lambda path: os.stat_result([*real(path)[:4], 65534, *real(path)[5:]])  # noqa: E731
    monkeypatch.setattr(Path, "lstat", nobody)
    assert joining.private_folder() != planted


def test_a_path_too_long_for_sockets_is_refused(temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / ("x" * 30)))
    with pytest.raises(UserError, match=r"TMPDIR: .* is too long for the paths"):
        joining.private_folder()


def test_a_ray_that_does_not_start_is_one_line(temporary, monkeypatch):
    def fails(**options):
        raise RuntimeError("no\nway")

    monkeypatch.setattr(joining.ray, "init", fails)
    with pytest.raises(UserError, match=r"Ray does not start on this machine \(no way\)"):
        joining.connect(None)
