"""What a worker prints: line by line, and marked with the function or actor that prints it.

The raylet follows the files that standard output and error go to, takes the marks out, and heads the lines that drivers
show with them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from typing import Any

from .. import _aktis

_LONGEST_NAME = 100

#: What a file of output says that takes nothing more for now, or that user code has closed.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})

#: What lines of the actor of this process are headed with.
_actor: str | None = None


def name_work(name: str) -> None:
    """From now on what is printed is printed by the function of this name, which a dataset runs here."""
    global _actor
    _actor = name


def install() -> None:
    """Puts marked streams in the place of ``sys.stdout`` and ``sys.stderr``."""
    streams: Any = sys  # checkers take those with underscores for constants
    streams.stdout = streams.__stdout__ = _MarkedOutput(streams.stdout)
    streams.stderr = streams.__stderr__ = _MarkedOutput(streams.stderr)


def name_actor(cls: type[Any], instance: Any = None) -> None:
    """From now on this process is an actor of this class: whatever it prints is its own.

    As in Ray, its lines are headed with its ``repr`` if the class has one of its own, else with the name of the class.
    """
    global _actor
    _actor = cls.__name__
    if instance is not None and cls.__repr__ is not object.__repr__:
        # Whatever user code raises here is no reason not to have the actor.
        with contextlib.suppress(Exception):
            _actor = repr(instance).splitlines()[0][:_LONGEST_NAME] or _actor


class _MarkedOutput(io.TextIOWrapper):
    def __init__(self, stream: io.TextIOWrapper):
        encoding, errors = stream.encoding, stream.errors
        super().__init__(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)
        self._source: str | None = None
        self._left_out = 0
        self._why_left_out: str | None = None

    def write(self, text: str) -> int:
        source = _actor or _aktis.current_function()
        if source is not None and source != self._source:
            # A mark also ends a line that somebody else has left without an end.
            self._source = source
            self._try_to_write(f"{_aktis.SOURCE_MARK}{source}\n")
        self._try_to_write(text)
        if not text.endswith("\n"):
            # What has no end yet may be the last that this process says.
            self.flush()
        return len(text)

    def _try_to_write(self, text: str) -> None:
        """Work is not to fail since what it prints finds no room: that is left out, and the next that finds room says so."""
        try:
            if self._left_out:
                super().write(f"[aktis: {self._left_out} writes before this were left out: {self._why_left_out}]\n")
                self._left_out = 0
            super().write(text)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._leave_out(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._leave_out(error)

    def _leave_out(self, error: OSError) -> None:
        self._left_out += 1
        self._why_left_out = error.strerror
