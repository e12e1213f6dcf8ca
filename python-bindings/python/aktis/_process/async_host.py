"""Async actors inside their process: event loops, and what their methods answer.

The main loop of the process waits for calls too (see :mod:`aktis._process.work_selector`), and runs them if the actor has no
concurrency groups. With groups, each has a loop and a thread of its own, so that a method that blocks holds up its group only.

```text
 call ─► dispatch ─┬─ no groups ─► task of the main loop ─┐           ┌ value ─► done(value)
                   └─ a group   ─► task of its loop ──────┴─► method ─┼ async generator ─► done.emit(item) ... end_stream()
                                                                      └ plain generator ─► a thread of its own
```
The loop of the methods without a group is also that of the constructor: what it makes by ``asyncio.get_event_loop()`` runs on it,
as soon as the constructor is done.

Streams are sent item by item from their loop. None holds a thread of the loop's default executor: that is the user's, and
name look-ups and ``to_thread`` need it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from . import actor_host
from .actor_host import DEFAULT_GROUP, current_call, find_in_group
from .work_selector import WorkSelector

if TYPE_CHECKING:
    from collections.abc import Callable

    from .actor_host import Done
    from .work_selector import WorkFeed

#: How often a stream that waits for its consumer asks whether there still is one.
_LOOK_FOR_CALLER_S = 1.0


class AsyncHost:
    """An actor whose methods run on event loops."""

    kind = "async"

    def __init__(self, construct: Callable[[], Any], groups: dict[str, int]):
        self._selector = WorkSelector()
        #: The loop of the process. With several groups none has it: a method that blocks must not keep calls from the others.
        self._main = CallLoop(groups[DEFAULT_GROUP], asyncio.SelectorEventLoop(self._selector))
        is_only_one = len(groups) == 1
        self._loops = {name: self._main if is_only_one else CallLoop(count) for name, count in groups.items()}
        default = self._loops[DEFAULT_GROUP]
        asyncio.set_event_loop(default.loop)
        self.instance = construct()
        if not is_only_one:
            default.begin()  # what the constructor has left on it is not to wait for the first call
        self._methods: dict[str, tuple[CallLoop, Callable[..., Any]]] = {}
        #: Calls whose inputs are being fetched by another thread: what comes after them waits behind them.
        self.late = 0

    def run(self, feed: WorkFeed) -> None:
        """Runs the loop until the process is to end. ``feed`` waits for work and for the loop's descriptors at once."""
        loop = self._main.loop
        self._selector.attach(feed, loop.stop)
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def dispatch(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method, when a slot of its group is free. On the thread of the main loop."""
        known = self._methods.get(method)
        if known is None:
            group, bound = find_in_group(self.instance, method, self._loops)
            known = self._methods[method] = self._loops[group], bound
        loop, bound = known
        if loop is self._main:
            loop.start(bound, args, kwargs, done)
        else:
            loop.submit(bound, args, kwargs, done)

    def arrive(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method whose inputs have been fetched; from any thread."""
        self._main.call_soon(self._arrive, method, args, kwargs, done)

    def arrive_in_vain(self) -> None:
        """Inputs could not be fetched: the call is answered already. From any thread."""
        self._main.call_soon(self._skip)

    def cancel(self, task_id: bytes) -> None:
        """Cancels the asyncio task of a call, once; from any thread."""
        for loop in self._loops.values():
            loop.call_soon(loop.cancel, task_id)

    def _arrive(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        self._skip()
        try:
            self.dispatch(method, args, kwargs, done)
        except Exception as error:  # noqa: BLE001 - there is no such method
            done(None, error)

    def _skip(self) -> None:
        self.late -= 1


class CallLoop:
    """The event loop of one concurrency group, and the calls that run on it."""

    def __init__(self, calls_at_once: int, loop: asyncio.AbstractEventLoop | None = None):
        self._slots = asyncio.Semaphore(calls_at_once)
        #: Calls that run, and who answers them. The loop itself keeps only weak references.
        self._running: dict[Done, asyncio.Task[None]] = {}
        self._loop = loop
        self._has_thread = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; most groups of most actors are never called, and need none."""
        if self._loop is None:
            self._loop = asyncio.SelectorEventLoop()
        return self._loop

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Calls a function on the loop, if there is one; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function, *args)

    def begin(self) -> None:
        """Runs the loop on a thread of its own. On the thread of the main loop."""
        if not self._has_thread:
            self._has_thread = True
            threading.Thread(target=self.loop.run_forever, name="aktis-actor-loop", daemon=True).start()

    def submit(self, bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """As :meth:`start`, from the thread of the main loop. The loop and its thread begin with the first call."""
        self.begin()
        self.loop.call_soon_threadsafe(self.start, bound, args, kwargs, done)

    def start(self, bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method, when a slot is free. On the loop's thread."""
        self._running[done] = self.loop.create_task(self._call(bound, args, kwargs, done))

    def cancel(self, task_id: bytes) -> None:
        """Cancels the asyncio task of a call, once. On the loop's thread."""
        for done, task in self._running.items():
            if done.task_id() != task_id or task.cancelling():
                continue
            coroutine: Any = task.get_coro()  # made by `start`, from an `async def`
            has_begun = inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
            task.cancel()
            if not has_begun:  # and never will, to answer for itself
                del self._running[done]
                done(None, asyncio.CancelledError())
            return

    async def _call(self, bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        current_call.set(done)
        try:
            await self._slots.acquire()
            try:
                if not actor_host.is_ending() and done.enter():
                    await _answer(bound(*args, **kwargs), done)
            finally:
                self._slots.release()
        except BaseException as error:  # noqa: BLE001 - everything is told to the caller
            done(None, error)
        finally:
            self._running.pop(done, None)


async def _answer(value: Any, done: Done) -> None:
    if type(value) is CoroutineType or inspect.isawaitable(value):
        value = await value
    if done.is_streaming:
        await _stream(value, done)
    elif inspect.isasyncgen(value):  # called with a number of returns: taken for a plain generator of them
        items = [item async for item in value]
        done((item for item in items), None)
    else:
        done(value, None)


async def _stream(items: Any, done: Done) -> None:
    """Sends a stream, which takes as long as its generator and its consumer do: the loop goes on meanwhile."""
    if not hasattr(items, "__aiter__"):
        await _send_from_a_thread(items, done)
        return
    try:
        async for item in items:
            done.emit(item)
            await _let_others_run(done)
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()
    done.end_stream()


async def _let_others_run(done: Done) -> None:
    """Between two items: one turn for whatever else is on the loop, or until the consumer has read enough."""
    from .._calls.futures import arrivals_of
    from ..exceptions import TaskCancelledError

    loop = asyncio.get_running_loop()
    has_room: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not has_room.done():
            has_room.set_result(None)

    token = arrivals_of(loop).await_room(done, tell)
    if token is None:
        await asyncio.sleep(0)
        return
    try:
        while not has_room.done():
            await asyncio.wait([has_room], timeout=_LOOK_FOR_CALLER_S)
            if not done.has_caller():
                raise TaskCancelledError("the caller of this generator is gone")
    finally:
        arrivals_of(loop).forget(token)


async def _send_from_a_thread(items: Any, done: Done) -> None:
    """Sends the items of a plain generator, which may block between them, from a thread that only this stream has."""
    loop = asyncio.get_running_loop()
    is_sent: asyncio.Future[None] = loop.create_future()
    context = contextvars.copy_context()

    def send() -> None:
        done.resume()
        context.run(done, items, None)
        loop.call_soon_threadsafe(is_sent.set_result, None)

    threading.Thread(target=send, name="aktis-actor-stream", daemon=True).start()
    try:
        await asyncio.shield(is_sent)
    except asyncio.CancelledError:  # the thread looks for it between items, and answers
        await is_sent
