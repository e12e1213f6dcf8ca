"""Generators of references of :func:`aktis.testing.local`.

The cells of items that nobody has read, and one more for the next:

```text
 emit(item) ─► [ready] [ready] [next]  ─► read one by one
               the next one's ``urge`` makes it, where the generator runs as it is read; else a loop or a thread emits
```
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, Self

from aktis import _aktis

from . import carrying
from .references import Cell, Failure, LocalRef, changed, urge, wait_until


class LocalGenerator:
    """Items as references. ``isinstance(generator, aktis.ObjectRefGenerator)`` is true of it."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._read = 0

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # type: ignore[override]
        return _aktis.ObjectRefGenerator

    def __class_getitem__(cls, _item: Any) -> Any:
        return cls

    def task_id(self) -> bytes:
        return self._stream.task

    def completed(self) -> LocalRef:
        return LocalRef(self._stream.completed, self._stream.task, -1)

    def next_ready(self) -> bool:
        urge(self._stream.next_cell())
        return self._stream.next_cell().is_ready

    def is_finished(self) -> bool:
        return self._stream.is_read()

    def _peek(self) -> LocalRef:
        return LocalRef(self._stream.next_cell(), self._stream.task, self._read)

    def next_within(self, timeout: float | None = None) -> LocalRef:
        cell = self._stream.next_cell()
        urge(cell)
        name = self._stream.name
        if not wait_until(lambda: cell.is_ready, timeout, lambda: f"the next item of {name} is waited for"):
            from aktis.exceptions import _timeout

            raise _timeout(1, 1, timeout or 0.0, f"{name} has not made its next item")
        if self._stream.is_read():
            raise StopIteration
        self._stream.take()
        self._read += 1
        return LocalRef(cell, self._stream.task, self._read - 1)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LocalRef:
        return self.next_within()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LocalRef:
        await self._peek().arrival()
        try:
            return self.next_within(0)
        except StopIteration:
            raise StopAsyncIteration from None

    def __del__(self) -> None:
        self._stream.abandon()

    def __repr__(self) -> str:
        return f"<aktis.ObjectRefGenerator object at {id(self):#x}>"


class Stream:
    """What a generator has given and will give."""

    def __init__(self, name: str, task: bytes, call: object, window: int | None):
        self.name = name
        self.task = task
        self.call = call
        self._window = window
        #: Makes one more item, or ends the stream; ``None``: others do.
        self.advance: Callable[[], None] | None = None
        #: Called, once, when it is over; and when somebody has read.
        self.on_over: Callable[[], None] = lambda: None
        self.on_read: Callable[[], None] = lambda: None
        self.completed = Cell(name, call, self._to_the_end)
        self._is_over = False
        self._cells: collections.deque[Cell] = collections.deque()
        self._add()

    def _add(self) -> None:
        self._cells.append(Cell(self.name, self.call, self._one_more))

    def _one_more(self) -> None:
        if self.advance is not None:
            self.advance()

    def _to_the_end(self) -> None:
        while self.advance is not None and not self._is_over:
            self.advance()

    @property
    def is_over(self) -> bool:
        """Whether no more items will come."""
        return self._is_over

    def has_room(self) -> bool:
        """Whether the next item may be made before others are read."""
        return self._window is None or len(self._cells) - 1 < self._window

    def emit(self, item: Any) -> None:
        """One more item."""
        carried = carrying.carry(item)
        with changed:
            self._add()
            cell = self._cells[-2]
        cell.give(carried)

    def end(self, failure: Failure | None = None) -> None:
        """The last one was there; or the last one is a failure."""
        with changed:
            if self._is_over:
                return
            last = self._cells[-1]
            if failure is not None:
                self._add()
            self._is_over, self.advance = True, None
        if failure is not None:
            last.fail(failure)
        nothing = carrying.carry(None)
        self._cells[-1].give(nothing)
        self.completed.give(nothing)
        self.on_over()

    def next_cell(self) -> Cell:
        """The next item's, or the end's."""
        return self._cells[0]

    def is_read(self) -> bool:
        """Whether it is over and nothing is left to be read."""
        with changed:
            return self._is_over and len(self._cells) == 1

    def take(self) -> None:
        """The next item was read."""
        with changed:
            self._cells.popleft()
        self.on_read()

    def abandon(self) -> None:
        """Nobody will read it."""
        if not self._is_over:
            self.end()
