"""Ray clusters of real processes on this machine, for the tests that need them.

Each node is a separate ``ray start`` with its own host name. If a test cuts cables, each node is
in its own network namespace, with its own address. That needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "200",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    # So that a driver notices soon that its head is gone. The default is 60 seconds.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}
NO_TRIALS = ("--num-cpus=0", "--include-dashboard=false")  # a head for the driver only
# On one address, listen on loopback only, whatever the platform.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


def kill_tree(process):
    """Send SIGKILL to a process and all its descendants at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()  # or one might see another die and react
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(60)


class Cluster:
    """A head and workers.

    Args:
        log_dir: Folder for the nodes' logs.
        network: Whether each node gets its own address.
        head: Further options of ``ray start --head``.
        environment: Additional environment variables of every process.
    """

    def __init__(self, log_dir, *, network=False, head=NO_TRIALS, environment=None):
        self.log_dir = Path(log_dir)
        self.network = f"mnist{os.getpid()}" if network else None
        self.port = 6379 if network else free_ports(1)[0]
        self.nodes = {}
        self.temp_dir = tempfile.mkdtemp(
            prefix="ray-", dir="/tmp"
        )  # short, because it is part of socket names
        self.head_options = head
        loopback = {} if network else LOOPBACK
        self.environment = {**ENVIRONMENT, **loopback, **(environment or {})}
        if network:
            self._make_switch()

    def __enter__(self):
        self.start_head()
        return self

    def __exit__(self, *_):
        for name in reversed(self.nodes.copy()):
            self.kill(name)
        for namespace in self._namespaces():
            ip("netns", "del", namespace)
        shutil.rmtree(self.temp_dir)

    @property
    def address(self):
        return f"{self._ip('head')}:{self.port}"

    def start_head(self):
        self._ray_start(
            "head",
            "--head",
            f"--port={self.port}",
            f"--temp-dir={self.temp_dir}",
            "--disable-usage-stats",
            *self.head_options,
        )

    def add(self, name, *options, prepare="true"):
        """Start a worker, after a shell command whose effects only the worker sees."""
        self._ray_start(name, f"--address={self.address}", *options, prepare=prepare)

    def kill(self, name):
        kill_tree(self.nodes.pop(name))

    def cut(self, name):
        """Pull the node's cable."""
        ip("-n", self._namespace("head"), "link", "set", name, "down")

    def heal(self, name):
        ip("-n", self._namespace("head"), "link", "set", name, "up")

    def popen(self, command, node="head", **options):
        """Start a process on a node, as a user there would."""
        return subprocess.Popen(
            [*self._inside(node), *command],
            env=self.environment,
            text=True,
            start_new_session=True,
            **options,
        )

    def study(self, here, *argv):
        """Start a study's driver on the head, joined to the cluster."""
        command = [sys.executable, "-m", "study.run", "--address", self.address, *argv]
        return self.popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _ray_start(self, name, *options, prepare="true"):
        if self.network and name != "head" and self._namespace(name) not in self._namespaces():
            self._plug_in(name)
        script = f'hostname {name} && {prepare} && exec "$@"'
        log = (self.log_dir / f"{name}-{len(self.nodes)}.log").open("w+")
        process = self.popen(
            [
                "unshare",
                "--uts",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
                RAY,
                "start",
                "--block",
                f"--node-ip-address={self._ip(name)}",
                f"--dashboard-agent-listen-port={free_ports(1)[0]}",
                *options,
            ],
            name,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.nodes[name] = process
        end = time.monotonic() + 120
        while "Ray runtime started" not in Path(log.name).read_text():
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < end, Path(log.name).read_text()
            time.sleep(0.2)

    # Networking: a switch in the head's namespace, and a cable from it to each worker's namespace.

    def _make_switch(self):
        head = self._namespace("head")
        ip("netns", "add", head)
        ip("-n", head, "link", "set", "lo", "up")
        ip("-n", head, "link", "add", "switch", "type", "bridge")
        ip("-n", head, "addr", "add", "10.77.0.1/24", "dev", "switch")
        ip("-n", head, "link", "set", "switch", "up")

    def _plug_in(self, name):
        head, own = self._namespace("head"), self._namespace(name)
        ip("netns", "add", own)
        ip("-n", own, "link", "set", "lo", "up")
        ip("-n", head, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", own)
        ip("-n", head, "link", "set", name, "master", "switch", "up")
        ip("-n", own, "addr", "add", f"{self._ip(name)}/24", "dev", "eth0")
        ip("-n", own, "link", "set", "eth0", "up")

    def _ip(self, name):
        if not self.network:
            return "127.0.0.1"
        return "10.77.0.1" if name == "head" else f"10.77.0.{1 + int(name.removeprefix('w'))}"

    def _namespace(self, name):
        return f"{self.network}-{name}"

    def _namespaces(self):
        if not self.network:
            return []
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
        names = [line.split()[0] for line in listed.stdout.splitlines()]
        return [name for name in names if name.startswith(f"{self.network}-")]

    def _inside(self, name):
        return ["ip", "netns", "exec", self._namespace(name)] if self.network else []


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def terminate(process, number=signal.SIGTERM, timeout=120):
    process.send_signal(number)
    return process.wait(timeout)
