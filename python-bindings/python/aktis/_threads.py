"""Threads that run Python code for the runtime: callbacks, and the printing of what workers print."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._aktis import WorkQueue


def start(name: str, queue: WorkQueue) -> None:
    """Starts a daemon thread that works off the queue."""
    threading.Thread(target=_serve, args=(queue,), name=name, daemon=True).start()


def _serve(queue: WorkQueue) -> None:
    while True:
        try:
            work = queue.take()
            if work is None:
                return
            function, arguments = work
            function(*arguments)
        except BaseException:  # noqa: BLE001 - nobody else could take it, and what comes next is to be done all the same
            sys.excepthook(*sys.exc_info())
        # Or they would live until the next work comes.
        work = function = arguments = None
