"""Actors inside their process: which thread runs a method, and how many run at once.

```text
 kind       methods run                                         limit
 sync       on the main thread, called by the native loop       1
 threaded   on threads, one group of them per concurrency group max_concurrency, or the group's number
 async      on one event loop in its own thread                 max_concurrency, or the group's number
```
Methods of one caller start in the order of its calls, in every kind (within a concurrency group).
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    import queue
    from collections.abc import AsyncGenerator, Callable, Iterator

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

    def enter(self) -> None:
        """Makes the current thread act on behalf of the call."""


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
    groups: dict[str, int] = dict(getattr(cls, "__aktis_concurrency_groups__", None) or {})
    is_async = has_async_methods(cls)
    groups[_DEFAULT_GROUP] = max_concurrency or (ASYNC_CONCURRENCY if is_async else 1)
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
    done.enter()
    try:
        value = bound(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - everything is told to the caller
        done(None, error)
    else:
        done(value, None)


class AsyncHost:
    """An actor whose methods run on an event loop."""

    kind = "async"

    def __init__(self, instance: Any, groups: dict[str, int]):
        import asyncio  # takes long to import, and few actors need it

        self.instance = instance
        self._loop = asyncio.new_event_loop()
        self._slots = {name: asyncio.Semaphore(count) for name, count in groups.items()}
        self._running: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._loop.run_forever, name="aktis-actor-loop", daemon=True).start()

    def dispatch(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method on the loop, when a slot of its group is free."""
        group, bound = _find_method(self.instance, method, self._slots)
        self._loop.call_soon_threadsafe(self._start, self._slots[group], bound, args, kwargs, done)

    def _start(self, *call: Any) -> None:
        task = self._loop.create_task(self._call(*call))
        self._running.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._running.discard)

    async def _call(
        self,
        slots: asyncio.Semaphore,
        bound: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        done: Done,
    ) -> None:
        async with slots:
            done.enter()
            try:
                value = bound(*args, **kwargs)
                if inspect.isawaitable(value):
                    value = await value
                elif inspect.isasyncgen(value):
                    value = self._iterate(value)
            except BaseException as error:  # noqa: BLE001 - everything is told to the caller
                done(None, error)
                return
            if inspect.isgenerator(value):
                # Sending a stream takes as long as the generator does, which the loop must not wait for.
                await self._loop.run_in_executor(None, done, value, None)
            else:
                done(value, None)

    def _iterate(self, generator: AsyncGenerator[Any, None]) -> Iterator[Any]:
        """The items of an async generator, for a thread that is not the loop's."""
        import asyncio

        while True:
            try:
                yield asyncio.run_coroutine_threadsafe(_anext(generator), self._loop).result()
            except StopAsyncIteration:
                return


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
