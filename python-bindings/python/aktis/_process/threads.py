"""Threads that run Python code for the runtime: callbacks, printing what workers print, methods of actors, fetching."""

from __future__ import annotations

import sys
import threading

# As type checkers know it: every session waits for what is imported here.
TYPE_CHECKING = False

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

    from .._aktis import WorkQueue


def start(name: str, queue: WorkQueue) -> None:
    """Starts a daemon thread that works off the queue."""
    threading.Thread(target=_serve, args=(queue,), name=name, daemon=True).start()


def _serve(queue: WorkQueue) -> None:
    while True:
        try:
            work = queue.take()
            if work is None:
                return
            work[0](*work[1])
        except BaseException as error:  # noqa: BLE001 - nobody else could take it, and what comes next is to be done all the same
            sys.excepthook(type(error), error, error.__traceback__)
        # Or what is in it would live until the next work comes.
        work = None


class ThreadGroup:
    """At most ``count`` daemon threads that take work from one queue, in order. They start as they are needed."""

    def __init__(self, name: str, count: int):
        import queue

        self._name = name
        self._count = count
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, work: Callable[[], None]) -> None:
        """Has a thread call ``work``, which must not raise. From any thread."""
        self._queue.put(work)
        if len(self._threads) < self._count and not self._idle.acquire(blocking=False):
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Has each thread end when what was submitted before is done. Nothing may be submitted any more."""
        for _ in self._threads:
            self._queue.put(None)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            # Or what is in it would live until the next work comes.
            del work
            self._idle.release()
