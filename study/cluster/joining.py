"""Connect to Ray or start it, and say how many trials fit."""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
import yaml

from study.cluster import ray_private
from study.console.errors import UserError, require_positive
from study.console.text import one_line, shown

CONNECT_TIMEOUT_S = 5
CLIENT_ATTEMPTS = 3
# The images and little else travel through the object store of a local Ray.
OBJECT_STORE_BYTES = 256 * 2**20
# A socket's path has at most 107 bytes, and Ray's lie up to 66 below the private folder.
LONGEST_FOLDER = 41


@dataclass(frozen=True)
class Slots:
    """Where trials can run.

    Attributes:
        cpus_per_trial: CPU cores of a trial.
        gpus_per_trial: GPUs of a trial; 0 on a cluster without.
        count: Trials that fit at once.
        nodes: Nodes that are up.
        grows: Whether more than those are needed for `count`.
    """

    cpus_per_trial: int
    gpus_per_trial: float
    count: int
    nodes: int
    grows: bool = False

    def describe(self) -> str:
        """E.g. ``2 trials at once (1 CPU core each) on 1 node``."""
        each = f"{self.gpus_per_trial:g} GPU" if self.gpus_per_trial else "1 CPU core"
        trials = "trial" if self.count == 1 else "trials"
        nodes = "node" if self.nodes == 1 else "nodes"
        more = " now; more start as trials wait" if self.grows else ""
        return f"{self.count} {trials} at once ({each} each) on {self.nodes} {nodes}{more}"


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start Ray on this machine where it is None.

    Raises:
        UserError: Nothing answers at `address`, or Ray does not start here.
    """
    # Ray prints tables and warnings of its own; the study has its own view.
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        folder = private_folder() / "s"  # Ray opens the one that it is given to everybody
        try:
            ray_private.start_on_loopback(folder, object_store_memory=OBJECT_STORE_BYTES, **options)
        except Exception as error:  # Ray raises many kinds here
            raise UserError(
                f"Ray does not start on this machine ({one_line(error)}); look "
                f"at its logs in {folder}/session_latest/logs"
            ) from None
        return
    ray_private.fail_fast()
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
            if ray_private.CLIENT_HANGS not in reason or attempt == CLIENT_ATTEMPTS:
                raise _cannot_join(address, reason) from None


def private_folder() -> Path:
    """What holds Ray's folder on this machine, and nobody else can enter; made if missing.

    Raises:
        UserError: The system's folder for temporary files cannot hold it.
    """
    # As Ray: what macOS gives each user is too long for a socket's path.
    place = Path("/tmp" if sys.platform == "darwin" else tempfile.gettempdir())
    folder = place / f"ray-{os.getuid()}"
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise UserError(
            f"TMPDIR: {place} is too long a path for Ray's sockets; set TMPDIR to a folder with a "
            "short one, like /tmp"
        )
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if ours and not found.st_mode & 0o077:
            return folder
        return Path(tempfile.mkdtemp(prefix="ray-", dir=place))
    except OSError as error:
        raise UserError(
            f"TMPDIR: {folder} cannot be made ({error.strerror}); set TMPDIR to a folder that "
            "can be written"
        ) from None


def _cannot_join(address: str, reason: str) -> UserError:
    return UserError(
        f"--address: cannot join a Ray cluster at {address!r} ({reason}); start one with "
        "'ray start --head', set RAY_AUTH_MODE=token if it asks for a token, or leave "
        "--address out to use this machine"
    )


def _require_listener(address: str) -> None:
    """Refuse at once an address that Ray would try for minutes."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UserError(
            f"--address: {shown(address)} is not an address; give auto, HOST:PORT or ray://HOST:PORT"
        )
    try:
        _probe(host, port)
    except (OSError, UnicodeError) as error:  # no host is named so
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--address: nothing answers at {shown(address)} ({reason}); check that "
            "the cluster is up and the port is open, or leave --address out to use this machine"
        ) from None
    if host == "localhost" or host.startswith("127."):
        try:
            _probe(ray.util.get_node_ip_address(), port)
        except OSError:
            # A head that listens on loopback alone; Ray would look for it at the outer address.
            ray_private.join_on_loopback()


def _probe(host: str, port: int) -> None:
    socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()


def plan_slots(gpus_per_trial: float | None, max_concurrent: int | None, *, elastic: bool) -> Slots:
    """How many trials fit on the connected cluster, grown as far as it can grow.

    A trial takes one CPU core, and one GPU where there are any.

    Args:
        gpus_per_trial: GPUs of a trial, fractions allowed; None picks 1 or 0.
        max_concurrent: Asked for by the user. On a cluster that may be more than fits now:
            what waits makes it grow.
        elastic: Whether nodes may join.

    Raises:
        UserError: No node can hold a trial.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = max(alive, nodes_at_most() if elastic else [], key=len)
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
    count = sum(_fitting(node, gpus_per_trial) for node in nodes)
    if count == 0:
        raise UserError("--address: no node of the cluster has a CPU core to run a trial on")
    if max_concurrent and (elastic or max_concurrent < count):
        count = max_concurrent
    now = sum(_fitting(node, gpus_per_trial) for node in alive)
    return Slots(1, gpus_per_trial, count, len(alive), grows=count > now)


def _fitting(node: dict[str, float], gpus_per_trial: float) -> int:
    """Trials that fit on a node at once."""
    # The small allowance keeps 1 / 0.1 from counting nine trials.
    by_gpu = node.get("GPU", 0) / gpus_per_trial + 1e-9 if gpus_per_trial else 1e9
    return int(min(node.get("CPU", 0), by_gpu))


def nodes_at_most() -> list[dict[str, float]]:
    """The resources of each node that the cluster launcher may have up at once.

    ``ray up`` leaves the cluster's file on the head. Of a cluster that was started otherwise
    nothing is known: what is up then counts.
    """
    file = ray_private.CLUSTER_FILE.expanduser()
    if not file.exists():
        return []
    config = yaml.safe_load(file.read_text())
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    workers = [
        node.get("resources", {})
        for node in types.values()
        for _ in range(node.get("max_workers", config.get("max_workers", 0)))
    ]
    return [head.get("resources", {}), *workers[: config.get("max_workers", len(workers))]]
