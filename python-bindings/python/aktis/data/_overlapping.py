"""Calls that overlap: coroutines on the event loop of their worker, or threads.

A worker has one loop for its whole life, on a thread of its own, so that a client that belongs to a loop (a connection pool)
serves call after call. What a call gives is handed over output by output: a generator that is not read waits.

    >>> async def numbers(count):
    ...     for number in range(count):
    ...         yield number
    >>> calls = Overlapping()
    >>> first, second = calls.begin(lambda: numbers(3)), calls.begin(lambda: numbers(1))
    >>> list(first), list(second)
    ([0, 1, 2], [0])
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

#: Outputs of one call that wait to be read, at most. A call that is read late holds this one and the one in its hands.
WAITING_OUTPUTS = 1


class Outputs:
    """What one call gives, from the thread or loop that makes it to the thread that reads it."""

    def __init__(self, most_waiting: int = WAITING_OUTPUTS) -> None:
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._items: collections.deque[Any] = collections.deque()
        self._is_over = False
        self._is_forgotten = False
        self._error: BaseException | None = None
        #: Set by a coroutine that waits for room.
        self._room: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_over)
            if self._items:
                item = self._items.popleft()
                self._make_room()
                return item
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def is_ready_within(self, seconds: float) -> bool:
        """Whether there is an output, or the end, by then."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._items or self._is_over, seconds))

    def put(self, item: Any) -> bool:
        """Hands an output over, from a thread; whether anybody still wants more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._most_waiting or self._is_forgotten)
            return self._append(item)

    async def put_from_loop(self, item: Any) -> bool:
        """Hands an output over, from a coroutine; whether anybody still wants more."""
        while True:
            with self._changed:
                if len(self._items) < self._most_waiting or self._is_forgotten:
                    return self._append(item)
                room = asyncio.Event()
                self._room = asyncio.get_running_loop(), room
            await room.wait()

    def _append(self, item: Any) -> bool:
        if not self._is_forgotten:
            self._items.append(item)
            self._changed.notify_all()
        return not self._is_forgotten

    def _make_room(self) -> None:
        self._changed.notify_all()
        if self._room is not None:
            (loop, room), self._room = self._room, None
            loop.call_soon_threadsafe(room.set)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; ``error``: why not."""
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify_all()

    def forget(self) -> None:
        """Nobody wants the rest."""
        with self._changed:
            self._is_forgotten = self._is_over = True
            self._items.clear()
            self._make_room()


class Overlapping:
    """The event loop of a worker, which is made when it is needed and started with the first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running: dict[Outputs, concurrent.futures.Future[None]] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    def begin(self, call: Callable[[], Any]) -> Outputs:
        """Calls ``call`` on the loop: what it gives, awaits or yields are the outputs."""
        outputs = Outputs()
        future = asyncio.run_coroutine_threadsafe(_drive(call, outputs), self._started())
        self._running[outputs] = future
        future.add_done_callback(lambda _: self._running.pop(outputs, None))
        return outputs

    def wait_for(self, awaitable: Any) -> Any:
        """The result of one coroutine."""

        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._started()).result()

    def forget(self, outputs: Outputs) -> None:
        """Ends a call whose outputs nobody wants."""
        outputs.forget()
        if (future := self._running.get(outputs)) is not None:
            future.cancel()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            self._thread = threading.Thread(target=self.loop.run_forever, name="aktis-async", daemon=True)
            self._thread.start()
        return self.loop


class Threads:
    """Threads that call a function side by side."""

    def __init__(self, count: int) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="aktis-call")

    def begin(self, call: Callable[[], Iterable[Any]]) -> Outputs:
        """Calls ``call`` on a thread; what it iterates over are the outputs."""
        outputs = Outputs()
        self._executor.submit(_hand_over, call, outputs)
        return outputs

    def forget(self, outputs: Outputs) -> None:
        """Ends a call whose outputs nobody wants, with its next output."""
        outputs.forget()


def _hand_over(call: Callable[[], Iterable[Any]], outputs: Outputs) -> None:
    try:
        for output in call():
            if not outputs.put(output):
                break
    except BaseException as error:  # noqa: BLE001 - it is raised where the outputs are read
        outputs.end(error)
    else:
        outputs.end()


async def _drive(call: Callable[[], Any], outputs: Outputs) -> None:
    try:
        async for output in as_outputs(call()):
            if not await outputs.put_from_loop(output):
                break
    except BaseException as error:  # it is raised where the outputs are read
        outputs.end(error)
        if isinstance(error, asyncio.CancelledError):
            raise
    else:
        outputs.end()


async def as_outputs(result: Any) -> AsyncIterator[Any]:
    """What a function gave, awaited and iterated over if it is such."""
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__aiter__"):
        async for output in result:
            yield output
    elif isinstance(result, Iterator):
        for output in result:
            yield output
    else:
        yield result


async def gathered(calls: Iterable[Callable[[], Awaitable[Any]]], limit: asyncio.Semaphore) -> list[Any]:
    """The results of calls, in their order, so many at once; the first failure ends the others."""

    async def limited(call: Callable[[], Awaitable[Any]]) -> Any:
        async with limit:
            return await call()

    tasks = [asyncio.ensure_future(limited(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def is_async(function: Any) -> bool:
    """Whether calls of a function, or of a class's instances, give coroutines or async generators."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        function = getattr(function, "__call__", function)  # noqa: B004 - the function behind it is wanted
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
