"""Connect to Ray or start it, and say how many trials fit."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray
from ray._private import ray_constants

from study.config import UserError, require_positive

CONNECT_TIMEOUT_S = 5
CLIENT_ATTEMPTS = 3
# The images and little else travel through the object store of a local Ray.
OBJECT_STORE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Slots:
    """Where trials can run.

    Attributes:
        cpus_per_trial: CPU cores of a trial.
        gpus_per_trial: GPUs of a trial; 0 on a cluster without.
        count: Trials that fit at once.
        nodes: Nodes alive.
    """

    cpus_per_trial: int
    gpus_per_trial: float
    count: int
    nodes: int

    def describe(self) -> str:
        """E.g. ``2 trials at once (1 CPU core each) on 1 node``."""
        each = f"{self.gpus_per_trial:g} GPU" if self.gpus_per_trial else "1 CPU core"
        trials = "trial" if self.count == 1 else "trials"
        nodes = "node" if self.nodes == 1 else "nodes"
        return f"{self.count} {trials} at once ({each} each) on {self.nodes} {nodes}"


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start Ray on this machine where it is None.

    Raises:
        UserError: Nothing answers at `address`.
    """
    # Ray prints tables and warnings of its own; the study has its own view.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # Nothing is to listen beyond this machine. On Linux Ray turns 127.0.0.1 into the
        # machine's outer address and binds to all interfaces, unless this constant is off.
        ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init(
            **options,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
        return
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "2")  # else it tries for minutes
    if address != "auto":
        _require_listener(address)
    for attempt in range(1, CLIENT_ATTEMPTS + 1):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Ray Client connection timed out")
                ray.init(address=address, **options)
            return
        except Exception as error:  # Ray raises many kinds here
            reason = " ".join(str(error).split("\n")[:2]).strip()
            # The head forks a server for each client, which now and then hangs.
            if "Initialization failure" not in reason or attempt == CLIENT_ATTEMPTS:
                raise _cannot_join(address, reason) from None


def _cannot_join(address: str, reason: str) -> UserError:
    return UserError(
        f"--address: cannot join a Ray cluster at {address!r} ({reason}); start one with "
        "'ray start --head', set RAY_AUTH_MODE=token if it asks for a token, or leave "
        "--address out to use this machine"
    )


def _require_listener(address: str) -> None:
    """Refuse at once an address that Ray would try for minutes."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UserError(
            f"--address: {address!r} is not an address; give auto, HOST:PORT or ray://HOST:PORT"
        )
    try:
        _probe(host, port)
    except OSError as error:
        raise UserError(
            f"--address: nothing answers at {address!r} ({error.strerror or error}); check that "
            "the cluster is up and the port is open, or leave --address out to use this machine"
        ) from None
    if host == "localhost" or host.startswith("127."):
        try:
            _probe(ray.util.get_node_ip_address(), port)
        except OSError:
            # A head that listens on loopback alone; Ray would look for it at the outer address.
            ray_constants.ENABLE_RAY_CLUSTER = False


def _probe(host: str, port: int) -> None:
    socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()


def plan_slots(gpus_per_trial: float | None, max_concurrent: int | None) -> Slots:
    """How many trials fit on the connected cluster.

    A trial takes one CPU core, and one GPU where there are any.

    Args:
        gpus_per_trial: GPUs of a trial, fractions allowed; None picks 1 or 0.
        max_concurrent: Upper bound asked for by the user.

    Raises:
        UserError: No node can hold a trial.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = [node.get("GPU", 0.0) for node in nodes]
    if gpus_per_trial is None:
        gpus_per_trial = 1.0 if any(gpus) else 0.0
    if gpus_per_trial:
        require_positive("--gpus-per-trial", gpus_per_trial)
        if gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial):
            raise UserError(
                f"--gpus-per-trial: {gpus_per_trial:g} is neither a fraction of one GPU nor a "
                "whole number"
            )
        if max(gpus, default=0) < gpus_per_trial:
            have = f"the largest node has {max(gpus):g}" if any(gpus) else "Ray sees none"
            raise UserError(
                f"--gpus-per-trial: {gpus_per_trial:g} GPU asked for, but {have}; leave the option "
                "out to train on CPU cores, or join a cluster with GPUs by --address"
            )
    # The small allowance keeps 1 / 0.1 from counting nine trials.
    count = sum(
        int(min(node.get("CPU", 0), gpu / gpus_per_trial + 1e-9 if gpus_per_trial else 1e9))
        for node, gpu in zip(nodes, gpus, strict=True)
    )
    if count == 0:
        raise UserError("--address: no node of the cluster has a CPU core to run a trial on")
    return Slots(1, gpus_per_trial, min(count, max_concurrent or count), len(nodes))
