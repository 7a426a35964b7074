"""Run a study's command on the head of a cluster that is reached through ``ray://``.

The driver of a study exchanges too much with its trials for a Ray Client connection.
So the driver runs on the head, and only its output is sent here.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from study.cluster import joining
from study.cluster.ray_private import HEAD
from study.config.study import StudyConfig
from study.console.errors import UserError
from study.console.signals import on_first_signal
from study.console.terminal import Terminal
from study.files import is_uri

POLL_S = 0.5


class HeadProcess:
    """An actor that runs a command of this package as a child process on the head.

    Args:
        module: The command's module.
        arguments: The command line without ``--address``.
        client_address: The cluster's address as the user gave it.
    """

    def __init__(self, module: str, arguments: Sequence[str], client_address: str) -> None:
        address = ray.get_runtime_context().gcs_address
        both = (address, client_address)
        self._addresses = [shlex.join(["--address", each]) for each in both]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--address", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # commands in the output must work for the user
            self._lines.append(line.replace(*self._addresses))

    def poll(self) -> tuple[list[str], int | None]:
        """The output since the last call, and the exit status once the command has ended."""
        ended = not self._reader.is_alive()
        lines = self._lines.copy()
        del self._lines[: len(lines)]  # the reader may have added more
        return lines, self._process.wait() if ended else None

    def stop(self) -> None:
        """Stop the study cleanly, by SIGTERM: Ray's workers block SIGINT for their children."""
        self._process.terminate()


def run_on_head(
    args: argparse.Namespace, argv: Sequence[str], kind: type[StudyConfig], new: StudyConfig | None
) -> int:
    """Run a study's command on the head that ``--address ray://HOST:PORT`` names.

    Args:
        args: The parsed command line.
        argv: The same, unparsed.
        kind: The kind of study that the command runs.
        new: The configuration of a new study, which is named here; None to continue one.

    Returns:
        The command's exit status.

    Raises:
        UserError: The cluster cannot be joined, or lacks this package.
    """
    address = args.address
    joining.connect(address)
    on_head: Any = ray.remote(num_cpus=0, resources={HEAD: 0.001})(HeadProcess)
    process = on_head.remote(kind.module, _arguments(args, argv, new), address)
    # A KeyboardInterrupt can get lost in Ray Client's callbacks.
    stop_asked = threading.Event()
    console = Terminal(on_closed=stop_asked.set)
    try:
        with on_first_signal(lambda _number: stop_asked.set()):
            while True:
                lines, status = ray.get(process.poll.remote())
                console.print("".join(lines), end="", soft_wrap=True)
                if status is not None:
                    return status
                if stop_asked.is_set():
                    ray.get(process.stop.remote())
                    stop_asked.clear()
                time.sleep(POLL_S)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"--address: the study ended on the cluster at {address!r} ({reason}); is mnist-study "
            "installed there? Continue with --resume and the same --address"
        ) from None


def _arguments(args: argparse.Namespace, argv: Sequence[str], new: StudyConfig | None) -> list[str]:
    """The command line for the head: without ``--address``, and with absolute folders."""
    here = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--address", "--resume", "--results-dir", "--name"):
        here.add_argument(option)
    given, rest = here.parse_known_args(argv)
    if new is not None:
        rest += ["--name", new.name]
    else:
        is_elsewhere = is_uri(given.resume)
        rest += ["--resume", given.resume if is_elsewhere else str(Path(given.resume).absolute())]
    return [*rest, "--results-dir", str(args.results_dir.absolute())]
