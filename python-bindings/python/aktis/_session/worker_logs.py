"""Prints what workers print, as ``(name pid=123) line``."""

from __future__ import annotations

import contextlib
import sys
import threading

# As type checkers know it: every session waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CYAN, _RESET = "\x1b[36m", "\x1b[0m"
#: Held while lines are printed: until then, nobody puts another stream in the place of the one that was asked for.
STREAMS = threading.Lock()


def print_worker_lines(batch: dict[str, Any]) -> None:
    """Prints some lines of one worker. Called by the native module, on a thread that does nothing else: must not raise.

    >>> print_worker_lines({"pid": 7, "source": "load", "lines": ["one", "two"]})
    (load pid=7) one
    (load pid=7) two
    """
    with STREAMS, contextlib.suppress(Exception):
        stream = sys.stderr if batch.get("is_stderr") else sys.stdout
        if stream is None:  # pythonw, or an interpreter that is ending
            return
        prefix = f"({batch.get('source') or 'worker'} pid={batch.get('pid')}{_origin(batch)})"
        if stream.isatty():
            prefix = f"{_CYAN}{prefix}{_RESET}"
        if lost := batch.get("lost_before"):
            stream.write(
                f"(aktis) {lost} lines of workers were not printed: they came faster than this output is read\n"
            )
        stream.write("".join(f"{prefix} {line}\n" for line in batch.get("lines", ())))
        stream.flush()


def _origin(batch: dict[str, Any]) -> str:
    """The worker's machine, if it is not this one."""
    import os

    hostname = batch.get("hostname")
    return f", node={hostname}" if hostname and hostname != os.uname().nodename else ""
