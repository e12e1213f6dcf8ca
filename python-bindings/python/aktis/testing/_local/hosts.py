"""Which thread runs the methods of an actor of :func:`aktis.testing.local`.

```text
 kind       methods run                                                     at once
 sync       on the thread that calls, before .remote() returns              1: a call that comes meanwhile waits for its turn
 threaded   on threads, one group of them per concurrency group             max_concurrency, or the group's number
 async      on an event loop with a thread of its own, one per group        max_concurrency, or the group's number
```
A generator of a sync actor runs as it is read, and its end when another call wants the actor.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aktis._process.actor_host import BUILT_IN_METHODS, DEFAULT_GROUP, GROUP_SEPARATOR, find_in_group, find_method
from aktis._process.threads import ThreadGroup

from .calls import Call, current, running
from .long_calls import watched
from .references import call_on

if TYPE_CHECKING:
    from .streams import Stream

#: Threads for calls whose inputs come from other threads.
late = ThreadGroup("aktis-local", 64)


class SyncHost:
    """Runs one method at a time, on the threads of callers."""

    kind = "sync"

    def __init__(self, construct: Callable[[], Any]):
        self._lock = threading.Lock()
        self._queue: collections.deque[tuple[Call, str]] = collections.deque()
        #: The call under way, and its thread.
        self._running: tuple[Call, int] | None = None
        #: A generator that is not at its end.
        self._stream: Stream | None = None
        self.instance = construct()

    def submit(self, call: Call, method: str) -> None:
        """Runs it, when those before have ended."""
        with self._lock:
            self._queue.append((call, method))
        self.pump()

    def pump(self, *, drains: bool = False) -> None:
        """Runs what waits. ``drains``: a generator before it to its end, too."""
        while True:
            with self._lock:
                stream = self._stream
            if stream is not None and not stream.is_over:
                if not drains or self.runs_here():
                    return
                while stream.advance is not None:
                    stream.advance()
            with self._lock:
                self._stream = None
                if self._running is not None or not self._queue:
                    return
                call, method = self._queue[0]
                if not call.has_inputs():
                    break
                self._queue.popleft()
                self._running = call, threading.get_ident()
            try:
                with watched(call.name):
                    call.run(functools.partial(self._invoke, method))
            finally:
                with self._lock:
                    self._running, self._stream = None, call.stream
        call.when_ready(lambda: late.submit(self.pump), lambda: late.submit(self.pump))

    def _invoke(self, method: str, *args: Any, **kwargs: Any) -> Any:
        # The instance of now: the actor may have been started again.
        return bound(self.instance, method)(*args, **kwargs)

    def runs_here(self) -> bool:
        """Whether the calling thread is in one of its methods."""
        now = self._running
        return now is not None and now[1] == threading.get_ident()

    def end(self) -> None:
        """Nothing will be called any more."""
        self._stream = None


class ThreadedHost:
    """Runs methods on a fixed number of threads."""

    kind = "threaded"

    def __init__(self, construct: Callable[[], Any], groups: dict[str, int]):
        self.instance = construct()
        self._groups = {name: ThreadGroup(f"aktis-actor-{name or 'default'}", count) for name, count in groups.items()}

    def submit(self, call: Call, method: str) -> None:
        """Runs it on the next free thread of its group."""
        group, _ = grouped(self.instance, method, self._groups)

        def work() -> None:
            call.run(lambda *args, **kwargs: bound(self.instance, method)(*args, **kwargs))
            if call.stream is not None:
                while call.stream.advance is not None:
                    call.stream.advance()

        submit = functools.partial(self._groups[group].submit, work)
        call.when_ready(submit, submit)

    def runs_here(self) -> bool:
        """Its methods may wait for each other."""
        return False

    def end(self) -> None:
        """What runs goes on to its end, and then its thread ends."""
        for group in self._groups.values():
            group.end()


class AsyncHost:
    """Runs methods on event loops."""

    kind = "async"

    def __init__(self, construct: Callable[[], Any], groups: dict[str, int]):
        self._loops = {name: CallLoop(count) for name, count in groups.items()}
        self.instance = self._loops[DEFAULT_GROUP].construct(construct)

    def submit(self, call: Call, method: str) -> None:
        """Runs it on the loop of its group, when a slot is free."""
        group, function = grouped(self.instance, method, self._loops)
        submit = functools.partial(self._loops[group].submit, call, function)
        call.when_ready(submit, submit)

    def runs_here(self) -> bool:
        """Its methods may wait for each other."""
        return False

    def end(self) -> None:
        """Ends the loops, and what runs on them."""
        for loop in self._loops.values():
            loop.end()


class CallLoop:
    """An event loop with its thread."""

    def __init__(self, calls_at_once: int):
        self._slots = asyncio.Semaphore(calls_at_once)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._made: Any = None
        self._error: BaseException | None = None
        self._has_begun = threading.Event()
        self._thread: threading.Thread | None = None

    def construct(self, construct: Callable[[], Any]) -> Any:
        """What ``construct`` makes, on the loop's thread before the loop runs."""
        self._begin(construct)
        if self._error is not None:
            raise self._error
        return self._made

    def _begin(self, construct: Callable[[], Any]) -> None:
        call = current.get()
        self._thread = threading.Thread(
            target=self._serve, args=(construct, call), name="aktis-actor-loop", daemon=True
        )
        self._thread.start()
        self._has_begun.wait()

    def _serve(self, construct: Callable[[], Any], call: Call | None) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            current.set(call)
            self._made = construct()
        except BaseException as error:  # noqa: BLE001 - raised where the actor is made
            self._error = error
        finally:
            current.set(None)
            self._has_begun.set()
        if self._error is None:
            self._loop.run_forever()
        self._loop.close()

    def submit(self, call: Call, function: Callable[..., Any]) -> None:
        """Runs it when a slot is free; from any thread."""
        if self._thread is None:
            self._begin(lambda: None)
        self._loop.call_soon_threadsafe(self._start, call, function)

    def _start(self, call: Call, function: Callable[..., Any]) -> None:
        task = self._loop.create_task(self._call(call, function))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.interrupt = functools.partial(call_on, self._loop, task.cancel)

    async def _call(self, call: Call, function: Callable[..., Any]) -> None:
        is_answered = False
        while not is_answered:
            try:
                async with self._slots:
                    if call.may_begin():
                        await self._run(call, function)
                is_answered = True
            except BaseException as error:  # noqa: BLE001 - everything is told to the caller
                is_answered = call.raised(error)

    async def _run(self, call: Call, function: Callable[..., Any]) -> None:
        with running(call):
            args, kwargs = call.arguments()
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            if call.stream is not None:
                await self._stream(call, value)
            elif inspect.isasyncgen(value):
                call.give([item async for item in value])
            else:
                call.give(value)

    async def _stream(self, call: Call, items: Any) -> None:
        stream = call.stream
        assert stream is not None, "it is called as a generator"
        if not hasattr(items, "__aiter__"):
            call.give(items)
            while stream.advance is not None:
                await asyncio.to_thread(stream.advance)
            return
        stream.on_over = call.ended
        async for item in items:
            if stream.is_over:  # nobody reads it any more
                await items.aclose()
                return
            stream.emit(item)
            await self._room(stream)
        stream.end()

    async def _room(self, stream: Stream) -> None:
        await asyncio.sleep(0)
        while not stream.has_room() and not stream.is_over:
            has_room = asyncio.Event()
            stream.on_read = functools.partial(call_on, self._loop, has_room.set)
            if not stream.has_room():
                await has_room.wait()

    def end(self) -> None:
        """Cancels what runs, and ends the loop; from any thread."""
        if self._thread is None:
            self._loop.close()
        elif self._thread.is_alive() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        # After what is cancelled has had its turn.
        self._loop.call_soon(self._loop.call_soon, self._loop.stop)


def bound(instance: Any, method: str) -> Callable[..., Any]:
    """The method, without the group that its name may begin with; those that every actor has, too."""
    name = method.rpartition(GROUP_SEPARATOR)[2]
    if name in BUILT_IN_METHODS and not hasattr(instance, name):
        return functools.partial(BUILT_IN_METHODS[name], instance)
    return find_method(instance, name)


def grouped(instance: Any, method: str, groups: dict[str, Any]) -> tuple[str, Callable[..., Any]]:
    """The concurrency group of a call, and what it calls."""
    if method in BUILT_IN_METHODS and not hasattr(instance, method):
        return DEFAULT_GROUP, bound(instance, method)
    return find_in_group(instance, method, groups)
