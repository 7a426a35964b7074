"""Studies on a Ray cluster that was started by someone else: one real head on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from study.results.tables import load_study

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--batch-size", "1024", "--width-mult", "0.5", "--epochs", "1", "--num-samples", "2"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "200",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
}

pytestmark = pytest.mark.slow


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, mnist):
    """Ports of a head: (of the cluster, for clients)."""
    port, client_port = free_ports(2)
    # Loopback only, whatever the platform.
    environment = {**ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    temp_dir = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: it is part of socket names
    log = (tmp_path_factory.mktemp("head") / "log").open("w+")
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
            f"--ray-client-server-port={client_port}",
            "--include-dashboard=false",
            "--num-cpus=2",
            "--disable-usage-stats",
            f"--temp-dir={temp_dir}",
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not all(answers(p) for p in (port, client_port)):
        assert process.poll() is None, Path(log.name).read_text()
        assert time.monotonic() < end, "the head does not answer"
        time.sleep(0.2)
    yield port, client_port
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    shutil.rmtree(temp_dir)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(here, *argv):
    return subprocess.Popen(
        [sys.executable, "-m", "study.run", *argv],
        cwd=here,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(here, *argv, process=None):
    process = process or start(here, *argv)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_study_on_a_cluster_and_its_resumption(cluster, tmp_path, scheme):
    address = f"{scheme}127.0.0.1:{cluster[1 if scheme else 0]}"
    out = run(tmp_path, "--address", address, "--name", "j", *SMALL)
    assert "2 of 2 trials ended" in out
    folder = tmp_path / "results" / "j"
    results = load_study(folder)
    assert set(results.trials["status"]) <= {"complete", "pruned"}
    assert results.study.sessions[0].address == f"127.0.0.1:{cluster[0]}"
    out = run(tmp_path, "--address", address, "--resume", "results/j", "--num-samples", "3")
    assert "3 of 3 trials ended" in out
    assert len(load_study(folder).trials) == 3
    assert answers(cluster[0]), "the cluster is still up"


def test_ctrl_c_reaches_the_head(cluster, tmp_path):
    address = f"ray://127.0.0.1:{cluster[1]}"
    process = start(tmp_path, "--address", address, "--name", "c", "--epochs", "50", *SMALL[:-4])
    folder = tmp_path / "results" / "c"
    end = time.monotonic() + 200
    while not any((folder / "ray").glob("trial_*/checkpoint_*")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out = run(tmp_path, process=process)
    assert "Traceback" not in out
    assert "Ended early: stopped by SIGTERM" in out
    assert f"--resume {folder} --address {address}\n" in out


def test_a_closed_output_reaches_the_head(cluster, tmp_path):
    address = f"ray://127.0.0.1:{cluster[1]}"
    arguments = ["--address", address, "--name", "o", "--epochs", "50", *SMALL[:-4]]
    process = subprocess.Popen(
        [sys.executable, "-m", "study.run", *arguments, "--num-samples", "40"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(200) == 0, err
    assert "Traceback" not in err
    assert "Ended early: stopped by SIGTERM" in err
    assert f"--resume {tmp_path / 'results' / 'o'} --address {address}\n" in err
