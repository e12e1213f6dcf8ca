"""Lines of progress at the bottom of a terminal, which they share with everything that is printed meanwhile.

tqdm draws them, so that they keep out of the way of bars of the user's own. While they are there, standard output and error
go through this module, also for handlers of ``logging``: what is printed, by this process or as lines of workers, takes the
bars away first, and they come back below it the next time they change. Nothing is lost and nothing is drawn twice.

This module imports tqdm, so it is itself imported only where there is progress to show.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from tqdm import tqdm

from aktis._session import worker_logs


class _Line(tqdm):
    """A line of text that tqdm keeps in its place."""

    # Lines change when they are told to: no thread is needed that looks after them.
    monitor_interval = 0
    text = ""

    def __str__(self) -> str:
        return self.text


class _Guard:
    """Standard output or error while lines are shown."""

    def __init__(self, stream: Any, screen: _Screen) -> None:
        self._wrapped = stream
        self._screen = screen

    def write(self, text: str) -> int:
        """Writes as the stream does, where no line of progress is in the way."""
        if _is_tqdm(sys._getframe(1)):
            return self._wrapped.write(text)
        return self._screen.write(self._wrapped, text)

    def flush(self) -> None:
        """Flushes; also what :func:`input` does before it asks, with a prompt that does not come by here."""
        if not _is_tqdm(sys._getframe(1)):
            self._screen.write(self._wrapped, "")
        self._wrapped.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """All lines in one piece."""
        self.write("".join(lines))

    def __iter__(self) -> Any:
        return iter(self._wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    # tqdm asks for each of its bars whether it is on the stream that is written to.

    def __eq__(self, other: object) -> bool:
        return self._wrapped == getattr(other, "_wrapped", other)

    def __hash__(self) -> int:
        return hash(self._wrapped)


def _is_tqdm(caller: FrameType) -> bool:
    """Whether one of tqdm's bars writes, which keeps its place beside ours by itself."""
    return str(caller.f_globals.get("__name__", "")).partition(".")[0] == "tqdm"


class _Screen:
    """The one who decides what is at the bottom of the terminal. All methods but :meth:`write` are called under tqdm's lock."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._guards: list[_Guard] = []
        self._handlers: list[tuple[logging.StreamHandler[Any], _Guard]] = []
        #: What brings tqdm's bars back, also those of others, while they are taken away.
        self._hidden: contextlib.AbstractContextManager[None] | None = None
        #: Whether what was printed last has no end yet: lines of progress must wait for it.
        self._is_line_open = False
        self._pid = os.getpid()

    def write(self, stream: Any, text: str) -> int:
        if os.getpid() != self._pid:  # a fork of this process, which has no lines on the screen
            return stream.write(text)
        with tqdm.get_lock():
            self.hide()
            if text:
                self._is_line_open = not text.endswith("\n")
            return stream.write(text)

    def hide(self) -> None:
        # Bars of the user's own may have moved meanwhile, and be there again.
        if self._lines and (self._hidden is None or (self._are_others_there() and not self._is_line_open)):
            stream = self._lines[0].fp
            self._hidden = tqdm.external_write_mode(file=stream, nolock=True)
            self._hidden.__enter__()
            stream.flush()

    def _are_others_there(self) -> bool:
        return any(bar not in self._lines for bar in list(getattr(tqdm, "_instances", ())))

    def _bring_back(self) -> None:
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            hidden.__exit__(None, None, None)

    def draw(self) -> None:
        if self._is_line_open:
            return
        self._bring_back()
        for line in self._lines:
            line.refresh(nolock=True)
        if self._lines:
            # What the terminal itself echoes, such as ^C, is then not beyond the end of a full line.
            self._lines[0].fp.write("\r")
            self._lines[0].fp.flush()

    def add(self, lines: Sequence[_Line]) -> None:
        if not self._lines:
            self._install()
        self._lines += lines

    def remove(self, lines: Sequence[_Line], last_words: str) -> None:
        """Takes lines away for good; in their place stays what they have to say at last."""
        self.hide()
        stream = lines[0].fp
        for line in lines:
            self._lines.remove(line)
            line.close()
        if not self._lines:
            self._uninstall()
        stream.write("\n" * self._is_line_open + last_words)
        stream.flush()
        self._is_line_open = False
        self._bring_back()

    def _install(self) -> None:
        self._pid, self._is_line_open = os.getpid(), False
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream):
                guard = _Guard(stream, self)
                setattr(sys, name, guard)
                self._guards.append(guard)
        for handler in _stream_handlers():
            for guard in self._guards:
                if handler.stream is guard._wrapped:
                    handler.setStream(guard)
                    self._handlers.append((handler, guard))

    def _uninstall(self) -> None:
        for name in ("stdout", "stderr"):
            for guard in self._guards:
                if getattr(sys, name) is guard:
                    setattr(sys, name, guard._wrapped)
        for handler, guard in self._handlers:
            if handler.stream is guard:
                handler.setStream(guard._wrapped)
        self._guards, self._handlers = [], []


_SCREEN = _Screen()


class TerminalBars:
    """The lines of one run on a terminal."""

    interval_s = 0.2

    def __init__(self, stream: Any) -> None:
        #: Of another run, whose lines are shown already.
        self._stream = stream._wrapped if isinstance(stream, _Guard) else stream
        self._lines: list[_Line] = []
        self.is_ascii = False

    def width(self) -> int:
        """Columns that a line may have. In the last one, some terminals would begin a new line."""
        return max((self._lines[0].format_dict["ncols"] or 80) - 1, 1) if self._lines else 0

    def open(self, count: int) -> None:
        """Makes room for so many lines."""
        if count <= len(self._lines):
            return
        with worker_logs.STREAMS, tqdm.get_lock():
            new = [_Line(file=self._stream, leave=False, dynamic_ncols=True) for _ in range(count - len(self._lines))]
            self._lines += new
            _SCREEN.add(new)
            self.is_ascii = bool(self._lines[0].ascii)

    def show(self, texts: Sequence[str]) -> None:
        """Replaces the lines. Of a job that runs in legs, there may be more than before."""
        self.open(len(texts))
        with tqdm.get_lock():
            for line, text in zip(self._lines, texts, strict=True):
                line.text = text
            _SCREEN.draw()

    def close(self, texts: Sequence[str]) -> None:
        """Leaves these lines, and none that changes."""
        with tqdm.get_lock():
            _SCREEN.remove(self._lines, "".join(f"{text}\n" for text in texts))
            self._lines = []


def is_terminal(stream: Any) -> bool:
    """Whether this is a stream that somebody looks at."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers: list[Any] = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]
