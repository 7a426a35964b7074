"""The private parts of Ray that `study.cluster.ray_private` uses still exist and mean the same.

A failure says what to do before Ray's upper bound in pyproject.toml is raised.
"""

from __future__ import annotations

import ast
import inspect
import logging
import os
from pathlib import Path

import pytest
import ray
from ray import tune
from ray._private import ray_constants, resource_and_label_spec
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment, Trial
from ray.util.client import worker

from study.cluster import ray_private

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = ("_private", "_internal")


def source(thing):
    return inspect.getsource(thing)


@pytest.mark.parametrize("folder", ["study", "analysis"])
def test_rays_private_modules_are_imported_in_one_file(folder):
    for file in (ROOT / folder).rglob("*.py"):
        if file.name == "ray_private.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            module = getattr(node, "module", None) or ""
            for name in (module, *(f"{module}.{n}" for n in names), *names):
                private = name.startswith("ray.") and any(p in name for p in PRIVATE)
                assert not private, f"{file}: {name} belongs in study/cluster/ray_private.py"


def test_loopback_is_a_constant():
    assert hasattr(ray_constants, "ENABLE_RAY_CLUSTER"), (
        "Ray reads another switch before it turns 127.0.0.1 into the machine's outer address: "
        "find it in ray._private.services, and let join_on_loopback set that"
    )


@pytest.mark.parametrize("option", ["_node_ip_address", "_temp_dir"])
def test_ray_init_takes_the_address_and_the_folder(option):
    # Its signature is read through a wrapper.
    text = source(ray.init)
    assert option in text, f"ray.init lacks {option}: start Ray by `ray start --head` instead"


def test_the_resource_of_the_head():
    assert ray_private.HEAD.removeprefix("node:") == "__internal_head__"
    assert resource_and_label_spec.HEAD_NODE_RESOURCE_NAME == ray_private.HEAD, (
        "the head's resource has another name: `study.cluster.head` must ask for that"
    )


def test_what_ray_client_says_if_its_server_did_not_start():
    assert ray_private.CLIENT_HANGS in source(worker), (
        "Ray Client words its failure to start otherwise: `study.cluster.joining.connect` must "
        "look for the new words, or it will not try again"
    )


@pytest.mark.parametrize("name", [*ray_private.ENVIRONMENT, ray_private.MAX_PENDING])
def test_ray_reads_the_environment(name):
    """Each name is looked for in Ray's own Python files."""
    root = Path(ray.__file__).parent
    files = [file for folder in ("tune", "air", "train") for file in (root / folder).rglob("*.py")]
    assert any(name in file.read_text() for file in files), (
        f"Ray does not read {name} any more: look in its release notes for what took its place, "
        "or remove it from study.cluster.ray_private.ENVIRONMENT"
    )


def test_the_session_leaves_rays_settings_as_they_were(monkeypatch):
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "7")
    monkeypatch.delenv(ray_private.MAX_PENDING, raising=False)
    before, level = dict(os.environ), logging.getLogger("ray.tune").level
    with ray_private.quiet():
        ray_private.limit_pending(5)
        assert os.environ["TUNE_GLOBAL_CHECKPOINT_S"] == "300"
        assert os.environ[ray_private.MAX_PENDING] == "5"
        assert logging.getLogger("ray.tune").level == logging.CRITICAL
    assert dict(os.environ) == before
    assert logging.getLogger("ray.tune").level == level
    with ray_private.quiet():  # the session ends before it knows how many trials fit
        pass
    assert dict(os.environ) == before


@pytest.fixture
def trial(tmp_path, monkeypatch):
    # The folder of a running Ray's logs.
    where = "ray.train._internal.storage._get_ray_train_session_dir"
    monkeypatch.setattr(where, lambda: str(tmp_path))
    experiment = Experiment(
        "ray",
        lambda config: None,
        storage_path=str(tmp_path),
        checkpoint_config=tune.CheckpointConfig(),
    )
    return ray_private.make_trial(experiment, "trial_00007", {"lr": 1.0}, {"lr": 1.0})


def test_a_trial_has_the_name_that_it_is_given(trial):
    advice = (
        "Experiment.spec or Trial's arguments have changed: look at both in ray.tune.experiment"
    )
    assert trial.trial_id == str(trial) == "trial_00007", advice
    trial.init_local_path()
    assert Path(trial.local_path).name == "trial_00007", advice
    assert trial.config == {"lr": 1.0}
    assert trial.max_failures == ray_private.TRIAL_RETRIES


def test_a_trial_continues_from_a_checkpoint_anywhere(trial, tmp_path):
    ray_private.continue_trial(trial, Checkpoint.from_directory(tmp_path), 4)
    assert isinstance(trial._restore_checkpoint_result, _TrainingResult)
    assert trial.checkpoint.path == str(tmp_path), (
        "Trial.checkpoint does not look at _restore_checkpoint_result any more: see how Trial uses "
        "its argument restore_path"
    )
    assert "current_checkpoint_index" in source(type(trial.storage)), (
        "the number of the next checkpoint is kept elsewhere: without it, a continued trial's "
        "checkpoints would not sort behind the earlier ones"
    )
    assert "checkpoint_000005" in str(_next_checkpoint_folder(trial))


def _next_checkpoint_folder(trial):
    trial.storage.trial_dir_name = "trial_00007"
    trial.storage._update_checkpoint_index({})
    return trial.storage.checkpoint_fs_path


def test_an_error_is_not_unpickled(trial):
    assert ray_private.error_file(trial) is None
    trial.init_local_path()
    trial.run_metadata.error_filename = "error.txt"
    (Path(trial.local_path) / "error.txt").write_text("Traceback\nValueError: x\n")
    assert ray_private.error_file(trial) == Path(trial.local_path) / "error.txt"
    assert "get_pickled_error" in source(Trial), (
        "Trial reads its error in another way: override that in StudyTrial"
    )
    assert trial.get_pickled_error() is None


def test_ray_asks_for_trials_until_there_are_none():
    text = source(TuneController)
    for call in ("_search_alg.next_trial()", "_search_alg.is_finished()"):
        assert call in text, f"TuneController does not call {call}: see what StudySearch must have"
