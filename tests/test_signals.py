from __future__ import annotations

import os
import signal
import threading

import pytest

from study.console.signals import on_first_signal
from study.search.stop_request import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_acts_and_the_second_is_as_before(number):
    got = []
    before = signal.signal(number, lambda n, _: got.append("before"))
    try:
        with on_first_signal(got.append):
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert got == [number, "before", "before"]


def test_handlers_are_restored_where_no_signal_came():
    before = signal.getsignal(signal.SIGINT)
    with on_first_signal(print):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_is_done():
    entered = []

    def work():
        with on_first_signal(print):
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGINT)]


def test_a_study_that_was_asked_to_stop_before_it_began_stops(monkeypatch):
    """The output may be closed while Ray starts."""
    stop = StopRequest()
    assert not stop.stop_all()
    stop.ask("its output was closed")
    assert stop.stop_all()
    assert stop.reason() == "its output was closed"
