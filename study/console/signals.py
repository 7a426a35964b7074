"""Handle the first Ctrl-C or SIGTERM; a second one acts as usual."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_first_signal(action: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `action` on the first SIGINT or SIGTERM; a second one gets the previous handler.

    Does nothing outside the main thread, because only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def handle(number: int, _frame: Any) -> None:
        restore()
        action(signal.Signals(number))

    before = {each: signal.signal(each, handle) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
