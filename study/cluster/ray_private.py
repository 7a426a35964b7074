"""The non-public parts of Ray that the study uses, each with its reason.

They appear only here. Because of them ``pyproject.toml`` limits the versions of Ray.
``tests/test_ray_private.py`` says what to do if a version of Ray lacks one.
"""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint, CheckpointConfig
from ray.tune.experiment import Experiment, Trial

CHECKPOINTS = CheckpointConfig(checkpoint_frequency=1, num_to_keep=2)
TRIAL_RETRIES = 3  # after an error or a lost node, from the last checkpoint
HEAD = "node:__internal_head__"  # the resource that only the head has
CLIENT_HANGS = "Initialization failure"  # Ray Client's message if its server did not start
# The file that ``ray up`` leaves on the head. It says how far the cluster may grow.
CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")
ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new engine prints tables even at verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the histories hold all that these would log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `study.console.signals` has its own
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in the tables and in the trial's folder
    # We restore nothing from Ray's snapshots, and each one holds every trial (23 KB per trial).
    "TUNE_GLOBAL_CHECKPOINT_S": "300",
}
MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"


def start_on_loopback(folder: Path, **options: Any) -> None:
    """Start Ray on this machine so that it listens on loopback only.

    Args:
        folder: The folder that Ray writes to.
        **options: Further options of `ray.init`.
    """
    join_on_loopback()
    # A token for this session. Ray would store one in the home folder, which may be read-only.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",  # even if another Ray runs on this machine
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder),
        **options,
    )


def join_on_loopback() -> None:
    """Make Ray accept 127.0.0.1 as its address.

    On Linux, unless this constant is off, Ray replaces that by the machine's outer address and
    binds to all interfaces.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False


def fail_fast() -> None:
    """Make Ray give up on an unreachable address within seconds instead of minutes."""
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "2")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray from printing over the study's own view during a session."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    before = {name: os.environ.get(name) for name in (*ENVIRONMENT, MAX_PENDING)}
    os.environ.update(ENVIRONMENT)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # If all values at a rung are NaN, ASHA rightly has no cutoff.
            warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def limit_pending(trials: int) -> None:
    """Limit how many trials Ray Tune lets wait for a slot in this session."""
    os.environ[MAX_PENDING] = str(trials)


class StudyTrial(Trial):
    """A trial whose error is read back as text: nothing in a results folder is unpickled."""

    def get_pickled_error(self) -> None:
        """Return None, so that Ray reads ``error.txt`` instead."""


def make_trial(
    experiment: Experiment, name: str, config: dict[str, Any], params: dict[str, Any]
) -> Trial:
    """A Ray trial under the study's name for it; Ray would choose its own.

    Args:
        experiment: As Ray passes it to a `SearchAlgorithm`.
        name: The trial's id, and the name of its folder.
        config: The configuration that the trainable gets.
        params: The parameters that distinguish it from other trials.
    """
    spec = experiment.spec
    return StudyTrial(
        spec["run"],
        config=config,
        trial_id=name,
        evaluated_params=params,
        experiment_tag=name,
        storage=spec["storage"],
        checkpoint_config=CHECKPOINTS,
        max_failures=TRIAL_RETRIES,
        trial_name_creator=lambda trial: trial.trial_id,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )


def continue_trial(trial: Trial, checkpoint: Checkpoint, number: int) -> None:
    """Make a trial that has not started begin from a checkpoint.

    Args:
        trial: From `make_trial`.
        checkpoint: On any file system. Ray's own argument, ``restore_path``, takes only local
            ones.
        number: The checkpoint's number. The next one counts on from it, so that the newest
            sorts last.
    """
    trial._restore_checkpoint_result = _TrainingResult(checkpoint, metrics={})
    assert trial.storage is not None
    trial.storage.current_checkpoint_index = number


def error_file(trial: Trial) -> Path | None:
    """Where Ray wrote a failed trial's traceback, if it did."""
    if trial.relative_logdir is None or trial.error_file is None:
        return None  # it never started
    return Path(trial.error_file)
