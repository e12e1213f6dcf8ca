"""A word about calls that run long on the thread of their caller: they may wait for what it would do next."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aktis._session.logging_level import logger

#: After so long a call is told of, once.
PATIENCE_S = 10.0

_LOGGER = logger("aktis.testing")
_lock = threading.Lock()
_numbers = itertools.count()
#: Of calls under way: the name, and since when; those that were told of are not here any more.
_running: dict[int, tuple[str, float]] = {}
_has_thread = False


@contextmanager
def watched(name: str) -> Iterator[None]:
    """The code within is a call of this name, whose caller waits for it."""
    global _has_thread
    number = next(_numbers)
    with _lock:
        _running[number] = name, time.monotonic()
        if not _has_thread:
            _has_thread = True
            threading.Thread(target=_watch, name="aktis-local-watch", daemon=True).start()
    try:
        yield
    finally:
        with _lock:
            _running.pop(number, None)


def _watch() -> None:
    global _has_thread
    while True:
        time.sleep(PATIENCE_S / 4)
        now = time.monotonic()
        with _lock:
            if not _running:
                _has_thread = False
                return
            late = {number: name for number, (name, since) in _running.items() if now - since >= PATIENCE_S}
            for number, name in late.items():
                _running[number] = name, float("inf")
        for name in late.values():
            _LOGGER.warning(
                "%s has run for %g s within .remote(), which in aktis.testing.local() returns when it has ended: if it waits for what its "
                "caller does next, it waits for ever",
                name,
                PATIENCE_S,
            )
