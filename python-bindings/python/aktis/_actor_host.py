"""Actors inside their process: which thread runs a method, and how many run at once.

```text
 kind       methods run                                         limit
 sync       on the main thread, called by the native loop       1
 threaded   on threads, one group of them per concurrency group max_concurrency, or the group's number
 async      on one event loop, on the main thread                max_concurrency, or the group's number
```
Methods of one caller start in the order of its calls, in every kind (within a concurrency group).
"""

from __future__ import annotations

import contextvars
import inspect
import threading
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import queue
    from collections.abc import AsyncGenerator, Callable, Iterator

    from ._work_selector import WorkFeed

#: How many methods of an async actor run at once unless the actor says otherwise. As in Ray.
ASYNC_CONCURRENCY = 1000

#: Separates a concurrency group chosen by the caller from the name of the method: no method name contains it.
GROUP_SEPARATOR = ":"

_DEFAULT_GROUP = ""


class ActorExit(SystemExit):
    """An actor wishes to end. Not an ``Exception``, so that ``except Exception`` in a method lets it pass."""


class Done(Protocol):
    """Answers one call; from any thread."""

    def __call__(self, value: Any, exc: BaseException | None = None) -> None: ...

    def enter(self) -> bool:
        """Makes the current thread act on behalf of the call. ``False``: it was cancelled, and is answered already."""

    def resume(self) -> None:
        """Makes the current thread act on behalf of the call again, after others had their turn."""

    def task_id(self) -> bytes:
        """The id of the call's task."""


#: On the loop of an async actor: the call to which the running coroutine belongs.
_current_call: contextvars.ContextVar[Done | None] = contextvars.ContextVar("current call", default=None)


def resume() -> None:
    """Makes the loop's thread act on behalf of the coroutine that runs. Called by the native module."""
    done = _current_call.get()
    if done is not None:
        done.resume()


class ActorHost(Protocol):
    """An actor and the threads that run it. Hosts of kind ``threaded`` and ``async`` also have ``dispatch``."""

    kind: str
    instance: Any


class SyncHost:
    """An actor whose methods the native loop calls itself."""

    kind = "sync"

    def __init__(self, instance: Any):
        self.instance = instance


def host_actor(cls: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], max_concurrency: int) -> ActorHost:
    """Constructs the actor, and gives it the host that its class asks for."""
    limits = call_limits(cls, {"max_concurrency": max_concurrency})
    groups: dict[str, int] = {**limits["concurrency_groups"], _DEFAULT_GROUP: limits["calls_at_once"]}
    is_async = has_async_methods(cls)
    instance = _with_built_in_methods(cls)(*args, **kwargs)
    if is_async:
        return AsyncHost(instance, groups)
    if len(groups) > 1 or groups[_DEFAULT_GROUP] > 1:
        return ThreadedHost(instance, groups)
    return SyncHost(instance)


def has_async_methods(cls: type[Any]) -> bool:
    """Whether any method of the class is a coroutine or an async generator."""

    def is_async(member: Any) -> bool:
        return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)

    return any(is_async(inspect.getattr_static(cls, name, None)) for name in dir(cls))


def call_limits(cls: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """How many methods run at once at most, outside of concurrency groups and in each of them.

    >>> class Plain: ...
    >>> call_limits(Plain, {"max_concurrency": 4, "concurrency_groups": {"io": 2}})
    {'calls_at_once': 4, 'concurrency_groups': {'io': 2}}
    """
    groups = options.get("concurrency_groups") or getattr(cls, "__aktis_concurrency_groups__", None) or {}
    default_group = options.get("max_concurrency") or (ASYNC_CONCURRENCY if has_async_methods(cls) else 1)
    return {"calls_at_once": default_group, "concurrency_groups": dict(groups)}


class ThreadedHost:
    """An actor whose methods run on a fixed number of threads."""

    kind = "threaded"

    def __init__(self, instance: Any, groups: dict[str, int]):
        self.instance = instance
        self._groups = {name: _ThreadGroup(name, count) for name, count in groups.items()}

    def dispatch(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method on the next free thread of its group."""
        group, bound = _find_method(self.instance, method, self._groups)
        self._groups[group].submit(lambda: _run(bound, args, kwargs, done))


class _ThreadGroup:
    """Threads that take calls from one queue. They start as they are needed."""

    def __init__(self, name: str, count: int):
        import queue

        self._name = name
        self._count = count
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, work: Callable[[], None]) -> None:
        self._queue.put(work)
        if len(self._threads) < self._count and not self._idle.acquire(blocking=False):
            thread_name = f"aktis-actor-{self._name or 'default'}-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=thread_name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while True:
            work = self._queue.get()
            work()
            self._idle.release()


def _run(bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
    if not done.enter():
        return
    try:
        value = bound(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - everything is told to the caller
        done(None, error)
    else:
        done(value, None)


class AsyncHost:
    """An actor whose methods run on an event loop, which is the main loop of its process."""

    kind = "async"

    def __init__(self, instance: Any, groups: dict[str, int]):
        import asyncio  # takes long to import, and few actors need it

        self.instance = instance
        self._slots = {name: asyncio.Semaphore(count) for name, count in groups.items()}
        #: Calls that run, and who answers them. The loop itself keeps only weak references.
        self._running: dict[Done, asyncio.Task[None]] = {}
        self._methods: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Calls whose inputs are being fetched by another thread: what comes after them waits behind them.
        self.late = 0

    def run(self, feed: WorkFeed) -> None:
        """Runs the loop until the process is to end. ``feed`` waits for work and for the loop's descriptors at once."""
        import asyncio

        from ._work_selector import WorkSelector

        selector = WorkSelector(feed, lambda: loop.stop())
        loop = self._loop = asyncio.SelectorEventLoop(selector)
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def dispatch(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method, when a slot of its group is free. On the thread of the loop."""
        group = self._methods.get(method)
        if group is None:
            group, bound = _find_method(self.instance, method, self._slots)
            self._methods[method] = group
        else:
            bound = getattr(self.instance, method.rpartition(GROUP_SEPARATOR)[2])
        assert self._loop is not None
        self._running[done] = self._loop.create_task(self._call(self._slots[group], bound, args, kwargs, done))

    def arrive(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method whose inputs have been fetched; from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._arrive, method, args, kwargs, done)

    def arrive_in_vain(self) -> None:
        """Inputs could not be fetched: the call is answered already. From any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._skip)

    def cancel(self, task_id: bytes) -> None:
        """Cancels the asyncio task of a call, once; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, task_id)

    def _arrive(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        self._skip()
        try:
            self.dispatch(method, args, kwargs, done)
        except Exception as error:  # noqa: BLE001 - there is no such method
            done(None, error)

    def _skip(self) -> None:
        self.late -= 1

    def _cancel(self, task_id: bytes) -> None:
        import asyncio

        for done, task in self._running.items():
            if done.task_id() != task_id or task.cancelling():
                continue
            has_begun = inspect.getcoroutinestate(task.get_coro()) != inspect.CORO_CREATED
            task.cancel()
            if not has_begun:  # and never will, to answer for itself
                del self._running[done]
                done(None, asyncio.CancelledError())
            return

    async def _call(
        self,
        slots: asyncio.Semaphore,
        bound: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        done: Done,
    ) -> None:
        _current_call.set(done)
        try:
            await slots.acquire()
            try:
                if done.enter():
                    await self._answer(bound(*args, **kwargs), done)
            finally:
                slots.release()
        except BaseException as error:  # noqa: BLE001 - everything is told to the caller
            done(None, error)
        finally:
            self._running.pop(done, None)

    async def _answer(self, value: Any, done: Done) -> None:
        if type(value) is CoroutineType or inspect.isawaitable(value):
            value = await value
        elif inspect.isasyncgen(value):
            assert self._loop is not None
            value = _Items(value, self._loop)
        if isinstance(value, (_Items, GeneratorType)):
            await self._send(value, done)
        else:
            done(value, None)

    async def _send(self, items: Iterator[Any], done: Done) -> None:
        """Sends a stream, which takes as long as the generator does: the loop must not wait for it."""
        import asyncio

        try:
            await asyncio.get_running_loop().run_in_executor(None, done, items, None)
        except asyncio.CancelledError:  # the thread that sends answers
            if isinstance(items, _Items):
                items.cancel()


class _Items:
    """The items of an async generator, for a thread that is not the loop's."""

    def __init__(self, generator: AsyncGenerator[Any, None], loop: asyncio.AbstractEventLoop):
        self._generator = generator
        self._loop = loop
        self._awaited: concurrent.futures.Future[Any] | None = None
        self._is_cancelled = False

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        import asyncio

        self._awaited = asyncio.run_coroutine_threadsafe(_anext(self._generator), self._loop)
        if self._is_cancelled:
            self._awaited.cancel()
        try:
            return self._awaited.result()
        except StopAsyncIteration:
            raise StopIteration from None

    def cancel(self) -> None:
        """Ends the waiting for the next item."""
        self._is_cancelled = True
        if self._awaited is not None:
            self._awaited.cancel()


async def _anext(generator: AsyncGenerator[Any, None]) -> Any:
    return await anext(generator)


def _find_method(instance: Any, name: str, groups: dict[str, Any]) -> tuple[str, Callable[..., Any]]:
    """The concurrency group of a call and the method it calls."""
    group, _, method = name.rpartition(GROUP_SEPARATOR)
    bound = getattr(instance, method)
    group = group or getattr(bound, "__aktis_method_options__", {}).get("concurrency_group") or _DEFAULT_GROUP
    if group not in groups:
        known = ", ".join(repr(name) for name in groups if name) or "none"
        raise ValueError(f"method {method!r} asks for concurrency group {group!r}, but the actor declares {known}")
    return group, bound


def _ray_ready(self: Any) -> bool:
    return True


def _ray_terminate(self: Any) -> None:
    raise ActorExit(0)


def _ray_call(self: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(self, *args, **kwargs)


#: Methods that every actor has, under Ray's names.
BUILT_IN_METHODS: dict[str, Callable[..., Any]] = {
    "__ray_ready__": _ray_ready,
    "__ray_terminate__": _ray_terminate,
    "__ray_call__": _ray_call,
}


def _with_built_in_methods(cls: type[Any]) -> type[Any]:
    """The class with the methods that every actor has. The process is the actor's own, so its class may be changed."""
    try:
        for name, method in BUILT_IN_METHODS.items():
            if not hasattr(cls, name):
                setattr(cls, name, method)
    except TypeError:  # a class of an extension module
        return type(cls.__name__, (cls,), {**BUILT_IN_METHODS, "__module__": cls.__module__})
    return cls
