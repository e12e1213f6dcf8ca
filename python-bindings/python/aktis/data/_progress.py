"""Shows how far a run is: on a terminal, or in a notebook; elsewhere it says nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

from aktis._session.logging_level import logger

from . import _native
from ._context import DataContext
from ._progress_lines import Ending, StageProgress, Tracker, lines

#: Short jobs show no progress.
QUIET_S = 1.0

_LOGGER = logger("aktis.data")
_is_missing_said = False


class _Place(Protocol):
    """Where lines of progress are shown."""

    is_ascii: bool
    #: How often they change, at most.
    interval_s: float

    def open(self, count: int) -> None: ...
    def width(self) -> int: ...
    def show(self, texts: Sequence[str]) -> None: ...
    def close(self, texts: Sequence[str]) -> None: ...


class Progress:
    """The progress of one run, from its first second to its end."""

    def __init__(self, execution: Any) -> None:
        self._execution = execution
        self._tracker = Tracker()
        self._stages: list[StageProgress] = []
        self._place: _Place | None = None
        self._next = time.monotonic() + QUIET_S
        self._is_silent = not DataContext.get_current().enable_progress_bars

    def show(self) -> None:
        """Brings the lines up to date, if it is time to."""
        now = time.monotonic()
        if self._is_silent or now < self._next:
            return
        place = self._place or _place()
        if place is None:
            self._is_silent = True
            return
        with self._unless_the_terminal_is_gone():
            self._stages = self._tracker.read(self._execution.stats())
            if self._place is None:
                self._place = place
                place.open(len(self._stages))
            self._next = now + place.interval_s
            place.show(lines(self._stages, place.width(), is_ascii=place.is_ascii))

    def close(self, kind: str) -> None:
        """Says at last how it ended (see :class:`Ending`), if anything was said before."""
        place, self._place, self._is_silent = self._place, None, True
        if place is None:
            return
        with self._unless_the_terminal_is_gone():
            stats = self._execution.stats()
            if kind == "done":
                self._stages = self._tracker.read(stats)
            elif all(stage.is_done for stage in self._stages):
                # What failed came after all rows, such as making the files visible.
                self._stages[-1] = dataclasses.replace(self._stages[-1], is_done=False)
            # Of a run that did not go well, the stages are as they were seen last: statistics call all of them done, since
            # nothing is left to do.
            ending = Ending(kind, stats["elapsed_s"])
            place.close(lines(self._stages, place.width(), ending=ending, is_ascii=place.is_ascii))

    @contextlib.contextmanager
    def _unless_the_terminal_is_gone(self) -> Any:
        try:
            yield
        except (OSError, ValueError):
            # It was closed, or its window was: no reason for the job to fail.
            self._is_silent = True


class NotebookLines:
    """Lines below a cell of a notebook, which change in their place and stay when it is saved."""

    is_ascii = False
    # Each change is a message to the browser.
    interval_s = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def open(self, count: int) -> None:
        """Nothing to do: the first lines make their place."""

    def width(self) -> int:
        """As wide as fits beside the prompt of a cell."""
        return 100

    def show(self, texts: Sequence[str]) -> None:
        """Replaces the lines."""
        import html

        from IPython.display import display

        text = "\n".join(texts)
        data = {"text/plain": text, "text/html": f'<pre style="margin:0">{html.escape(text)}</pre>'}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def close(self, texts: Sequence[str]) -> None:
        """Replaces the lines for the last time."""
        self.show(texts)


def _place() -> _Place | None:
    if not _native.shows_progress():
        return None
    if is_notebook():
        return NotebookLines()
    try:
        stream_is_terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stream, or a closed one
        return None
    if not stream_is_terminal:
        return None
    try:
        from ._terminal_bars import TerminalBars
    except ModuleNotFoundError as error:
        _say_what_is_missing(error)
        return None
    return TerminalBars(sys.stderr)


def _say_what_is_missing(error: ModuleNotFoundError) -> None:
    global _is_missing_said
    if not _is_missing_said:
        _is_missing_said = True
        _LOGGER.warning(
            "progress is not shown, because %s is not installed: install aktis[data], or set AKTIS_PROGRESS=0",
            error.name,
        )


def is_notebook() -> bool:
    """Whether a kernel of Jupyter runs this."""
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell is not None else None
    return getattr(instance, "kernel", None) is not None
