"""Stopping a loop politely on SIGINT and SIGTERM."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """``signal_name`` is None until SIGINT or SIGTERM asks for a stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block runs, SIGINT and SIGTERM set its `StopRequest`; a second one interrupts it.

    Processes forked meanwhile inherit the handler, which does nothing in them; data-loader workers
    are in process groups of their own and do not get what is sent to this one's. Outside the main
    thread, where Python allows no handlers, signals act as ever.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() != owner:
            return
        if request:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in signals}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
