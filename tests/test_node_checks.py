from __future__ import annotations

from types import SimpleNamespace

import pytest

from study.console.errors import UserError
from study.results.storage import Storage
from study.results.versions import PACKAGES, installed_versions
from study.search import node_checks


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "results" / "n")


@pytest.fixture
def fine():
    return {"versions": installed_versions(), "sees": True, "free": {"/tmp": 10**10}}


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
    ],
)
def test_each_lack_is_one_line(storage, fine, lack, reason):
    (complaint,) = node_checks._about("node 10.0.0.2", {**fine, **lack}, storage)
    assert complaint.startswith("node 10.0.0.2: ")
    assert reason in complaint
    assert "\n" not in complaint


def test_all_complaints_are_reported(storage, fine, monkeypatch):
    answers = [("node a", {**fine, "sees": False}), ("node b", {"fault": "is gone"})]
    monkeypatch.setattr(node_checks, "_ask_nodes", lambda *_: answers)
    with pytest.raises(UserError) as error:
        node_checks.check(storage, cluster=True)
    first, second = str(error.value).splitlines()
    assert first.startswith("node a: does not see")
    assert second.startswith("error: node b: is gone")


def test_a_full_disk_here_is_refused(storage, monkeypatch):
    full = SimpleNamespace(free=2**20)
    monkeypatch.setattr(node_checks.shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match="this machine: only 1 MB free in "):
        node_checks.check(storage, cluster=False)


def test_probe_says_what_it_sees(storage):
    with storage.marker() as marker:
        answer = node_checks.probe(marker, str(storage.folder))
    assert answer["sees"]
    assert set(answer["versions"]) == set(PACKAGES)
    assert min(answer["free"].values()) > 0
    assert not node_checks.probe(marker, str(storage.folder))["sees"]  # the marker has been removed
