"""Worker processes for the benchmarks: each sets up one arm and runs it on demand."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Worker:
    """A new process that calls ``make(argument)`` once, and its result at each `start`."""

    def __init__(self, make: Callable[[Any], Callable[[], Any]], argument: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, argument), daemon=True)
        self.process.start()
        theirs.close()
        self.result()  # set up

    def start(self) -> None:
        """Begin a run."""
        self.connection.send("run")

    def result(self) -> Any:
        """Wait for the run and return its value. Raises an error if the run failed."""
        try:
            outcome, value = self.connection.recv()
        except EOFError:
            raise RuntimeError("a benchmark process died; its message is above") from None
        if outcome == "error":
            raise RuntimeError(f"a benchmark process failed: {value}")
        return value

    def run(self) -> Any:
        """Run once and return the value."""
        self.start()
        return self.result()

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()


def _serve(connection: Connection, make: Callable[[Any], Any], argument: Any) -> None:
    try:
        run = make(argument)
        connection.send(("ready", None))
        while True:
            connection.recv()
            connection.send(("value", run()))
    except EOFError:  # the parent closed its end
        return
    except Exception as error:
        connection.send(("error", repr(error)))
        raise
