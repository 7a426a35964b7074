"""Connect to a Ray cluster or start Ray here, and plan how many trials run at once."""

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
# A local Ray keeps the images and little else in its object store.
OBJECT_STORE_BYTES = 256 * 2**20
# A socket's path has at most 107 bytes. Ray needs up to 66 of them below the private folder.
LONGEST_FOLDER = 41


@dataclass(frozen=True)
class Slots:
    """Where trials can run.

    Attributes:
        cpus_per_trial: CPU cores per trial.
        gpus_per_trial: GPUs per trial; 0 on a cluster without GPUs.
        count: Trials that fit at once.
        nodes: Nodes that are up.
        grows: Whether `count` trials need more nodes than are up.
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
    """Join the cluster at `address`, or start Ray on this machine if it is None.

    Raises:
        UserError: Nothing answers at `address`, or Ray does not start here.
    """
    # Ray prints tables and warnings of its own; the study has its own view.
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        folder = private_folder() / "s"  # Ray opens the folder it is given to everyone
        try:
            ray_private.start_on_loopback(folder, object_store_memory=OBJECT_STORE_BYTES, **options)
        except Exception as error:  # Ray raises many kinds here
            raise UserError(
                f"Ray does not start on this machine ({one_line(error)}); if the machine is busy, "
                f"try again; otherwise see its logs in {folder}/session_latest/logs"
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
            # The head forks a server for each client. Now and then one hangs.
            if ray_private.CLIENT_HANGS not in reason or attempt == CLIENT_ATTEMPTS:
                raise _cannot_join(address, reason) from None


def private_folder() -> Path:
    """The folder that holds Ray's own, which only this user can enter. Created if missing.

    Raises:
        UserError: The system's folder for temporary files cannot hold it.
    """
    # As in Ray: the temporary folder of a macOS user is too long for a socket's path.
    place = Path("/tmp" if sys.platform == "darwin" else tempfile.gettempdir())
    folder = place / f"ray-{os.getuid()}"
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise UserError(
            f"TMPDIR: {place} is too long for the paths of Ray's sockets; set TMPDIR to a folder "
            "with a short path, like /tmp"
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
            f"TMPDIR: {folder} cannot be created ({error.strerror}); set TMPDIR to a folder that "
            "you can write to"
        ) from None


def _cannot_join(address: str, reason: str) -> UserError:
    return UserError(
        f"--address: cannot join a Ray cluster at {address!r} ({reason}); start one with "
        "'ray start --head', set RAY_AUTH_MODE=token if it asks for a token, or leave "
        "--address out to use this machine"
    )


def _require_listener(address: str) -> None:
    """Fail fast if nothing listens at `address`: Ray would try it for minutes."""
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
    except (OSError, UnicodeError) as error:  # UnicodeError: not a possible host name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--address: nothing answers at {shown(address)} ({reason}); check that "
            "the cluster is up and the port is open, or leave --address out to use this machine"
        ) from None
    if host == "localhost" or host.startswith("127."):
        try:
            _probe(ray.util.get_node_ip_address(), port)
        except OSError:
            # The head listens on loopback only, but Ray would look for it at the outer address.
            ray_private.join_on_loopback()


def _probe(host: str, port: int) -> None:
    socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()


def plan_slots(gpus_per_trial: float | None, max_concurrent: int | None, *, elastic: bool) -> Slots:
    """How many trials fit on the connected cluster once it has grown as far as it can.

    A trial takes one CPU core, and one GPU if there are any.

    Args:
        gpus_per_trial: GPUs per trial, fractions allowed; None picks 1 or 0.
        max_concurrent: The user's limit. On a cluster it may be more than fits now, because
            waiting trials make the cluster grow.
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
                "out to train on CPU cores, or join a cluster with GPUs using --address"
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
    # The small allowance guards against rounding: ten trials of 0.1 GPU fit on one GPU.
    by_gpu = node.get("GPU", 0) / gpus_per_trial + 1e-9 if gpus_per_trial else 1e9
    return int(min(node.get("CPU", 0), by_gpu))


def nodes_at_most() -> list[dict[str, float]]:
    """The resources of each node that the cluster launcher may run at once.

    ``ray up`` leaves its configuration file on the head. If a cluster was started in another
    way, its limit is unknown and the list is empty.
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
