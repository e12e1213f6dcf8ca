"""``os._exit`` in a call of :func:`aktis.testing.local`: it would end the test, where it means the process of a worker."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any, NoReturn

from .calls import current

#: Whether the running code is a function of a dataset.
in_dataset: ContextVar[bool] = ContextVar("function of a dataset within aktis.testing.local()", default=False)
_exit: Any = os._exit
_pid = 0


class ProcessExit(SystemExit):
    """The process that a call would have has ended."""


def _ended(status: int) -> NoReturn:
    if os.getpid() == _pid and (current.get() is not None or in_dataset.get()):
        raise ProcessExit(status)
    _exit(status)
    raise AssertionError("the process has ended")


def begin() -> None:
    """From now on it ends calls."""
    global _exit, _pid
    if os._exit is not _ended:
        _exit, _pid = os._exit, os.getpid()
        os._exit = _ended  # type: ignore[assignment]


def end() -> None:
    """From now on it ends processes."""
    if os._exit is _ended:  # type: ignore[comparison-overlap]
        os._exit = _exit
