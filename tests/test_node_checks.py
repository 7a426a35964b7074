from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from study.console.errors import UserError
from study.results.storage import Storage
from study.results.versions import PACKAGES, installed_versions
from study.search import node_checks
from study.training import kernels


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "results" / "n")


@pytest.fixture
def fine():
    return {
        "versions": installed_versions(),
        "sees": True,
        "free": {"/tmp": 10**10},
        "gpu": None,
        "kernels": None,
    }


def test_a_node_that_has_everything(storage, fine):
    assert node_checks._about("node 10.0.0.2", fine, storage) == []


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        ({"fault": "does not answer within 90 s"}, "does not answer within 90 s; see its Ray"),
        (
            {"import": "ModuleNotFoundError: No module named 'study'"},
            "cannot import this package (ModuleNotFoundError: No module named 'study'); install",
        ),
        ({"versions": {"torch": "2.11.0"}}, "torch is 2.11.0 there and "),
        ({"versions": {"optuna": None}}, "optuna is missing there and "),
        (
            {"sees": False},
            "use --results-dir with a folder that all nodes share, or --storage-path",
        ),
        ({"free": {"/tmp": 5 * 2**20}}, "only 5 MB free in /tmp; free some space there"),
        (
            {"gpu": "Found no NVIDIA driver"},
            "Ray sees a GPU there, but torch cannot use it (Found no NVIDIA driver); fix that, or "
            "train on CPU cores with --gpus-per-trial 0",
        ),
    ],
)
def test_each_lack_is_one_line(storage, fine, lack, reason):
    (complaint,) = node_checks._about("node 10.0.0.2", {**fine, **lack}, storage)
    assert complaint.startswith("node 10.0.0.2: ")
    assert reason in complaint
    assert "\n" not in complaint


def test_all_complaints_are_reported(storage, fine, monkeypatch):
    answers = [("node a", {**fine, "sees": False}), ("node b", {"fault": "is gone"})]
    monkeypatch.setattr(node_checks, "_ask_nodes", lambda *_, **__: answers)
    with pytest.raises(UserError) as error:
        node_checks.check(storage, cluster=True, gpus=False)
    first, second = str(error.value).splitlines()
    assert first.startswith("node a: does not see")
    assert second.startswith("error: node b: is gone")


def test_a_full_disk_here_is_refused(storage, monkeypatch):
    full = SimpleNamespace(free=2**20)
    monkeypatch.setattr(node_checks.shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match="this machine: only 1 MB free in "):
        node_checks.check(storage, cluster=False, gpus=False)


def without_gpu(monkeypatch, reason):
    def init():
        if reason:
            raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("The NVIDIA driver is\ntoo old", "The NVIDIA driver is too old"),
        ("", "torch.cuda.is_available() is False"),
    ],
)
def test_a_gpu_here_that_torch_cannot_use_is_refused(storage, monkeypatch, reason, shown):
    without_gpu(monkeypatch, reason)
    with pytest.raises(UserError) as error:
        node_checks.check(storage, cluster=False, gpus=True)
    assert str(error.value) == (
        f"this machine: Ray sees a GPU there, but torch cannot use it ({shown}); fix that, or "
        "train on CPU cores with --gpus-per-trial 0"
    )
    assert node_checks.check(storage, cluster=False, gpus=False) == []  # the way out


def test_a_gpu_here_that_torch_can_use_is_fine(storage, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert node_checks.check(storage, cluster=False, gpus=True) == []


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("compiler", [False, True])
def test_a_node_is_asked_for_what_trials_use_there(storage, monkeypatch, gpu, compiler):
    without_gpu(monkeypatch, "no driver")
    monkeypatch.setattr(kernels, "problem", lambda: "No C compiler")
    with storage.marker() as marker:
        answer = node_checks.probe(marker, str(storage.folder), gpu, compiler)
    assert answer["gpu"] == ("no driver" if gpu else None)
    assert answer["kernels"] == ("No C compiler" if compiler else None)


@pytest.mark.parametrize("cluster", [False, True])
def test_a_compiler_that_does_not_work_is_a_warning(storage, fine, monkeypatch, cluster):
    problem = "No C compiler found ('cc'); install one"
    answers = [("node a", fine), ("node b", {**fine, "kernels": problem})]
    monkeypatch.setattr(node_checks, "_ask_nodes", lambda *_, **__: answers)
    monkeypatch.setattr(kernels, "problem", lambda: problem)
    assert node_checks.check(storage, cluster=cluster, gpus=False) == [
        f"{'node b' if cluster else 'this machine'}: {problem}. Until then trials train at about "
        "half speed there."
    ]


def test_probe_says_what_it_sees(storage):
    with storage.marker() as marker:
        answer = node_checks.probe(marker, str(storage.folder), False, False)
    assert answer["sees"]
    assert set(answer["versions"]) == set(PACKAGES)
    assert min(answer["free"].values()) > 0
    again = node_checks.probe(marker, str(storage.folder), False, False)
    assert not again["sees"]  # the marker has been removed
