"""Actors inside their process: which thread runs a method, and how many run at once.

```text
 kind       methods run                                         limit
 sync       on the main thread, called by the native loop       1
 threaded   on threads, one group of them per concurrency group max_concurrency, or the group's number
 async      on an event loop on the main thread; with          max_concurrency, or the group's number
            concurrency groups, on one loop and thread each
```
Methods of one caller start in the order of its calls, in every kind (within a concurrency group).
"""

from __future__ import annotations

import contextvars
import inspect
from typing import TYPE_CHECKING, Any, Protocol

from .threads import ThreadGroup

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many methods of an async actor run at once unless the actor says otherwise. As in Ray.
ASYNC_CONCURRENCY = 1000

#: Separates a concurrency group chosen by the caller from the name of the method: no method name contains it.
GROUP_SEPARATOR = ":"

DEFAULT_GROUP = ""


class ActorExit(SystemExit):
    """An actor wishes to end. Not an ``Exception``, so that ``except Exception`` in a method lets it pass."""


#: Whether ``exit_actor`` was called: methods that have not begun never do. Their callers learn it when the process ends.
_is_ending = False


def request_exit() -> None:
    """The actor ends after the method that runs, even if that catches the :class:`ActorExit` raised next."""
    global _is_ending
    from .._session import session

    # Within `aktis.testing.local()` the process goes on.
    _is_ending = session.local() is None
    session.runtime.request_exit()


def is_ending() -> bool:
    """Whether the actor has called ``exit_actor``."""
    return _is_ending


class Done(Protocol):
    """Answers one call; from any thread."""

    #: Whether the caller takes items one by one.
    is_streaming: bool

    def __call__(self, value: Any, exc: BaseException | None = None) -> None: ...

    def enter(self) -> bool:
        """Makes the current thread act on behalf of the call. ``False``: it was cancelled, and is answered already."""
        ...

    def resume(self) -> None:
        """Makes the current thread act on behalf of the call again, after others had their turn."""

    def task_id(self) -> bytes:
        """The id of the call's task."""
        ...

    def emit(self, item: Any) -> None:
        """Sends an item of a stream."""

    def end_stream(self) -> None:
        """Answers a call whose items were all sent with :meth:`emit`."""

    def has_caller(self) -> bool:
        """Whether somebody waits for the answer."""
        ...


#: On a loop of an async actor: the call to which the running coroutine belongs.
current_call: contextvars.ContextVar[Done | None] = contextvars.ContextVar("current call", default=None)


def resume() -> None:
    """Makes the loop's thread act on behalf of the coroutine that runs. Called by the native module."""
    done = current_call.get()
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
    is_async = has_async_methods(cls)
    at_once = max_concurrency or (ASYNC_CONCURRENCY if is_async else 1)
    groups: dict[str, int] = {**concurrency_groups(cls), DEFAULT_GROUP: at_once}
    cls = _with_built_in_methods(cls)
    if is_async:
        from .async_host import AsyncHost  # imports asyncio, which takes long, and few actors need it

        return AsyncHost(lambda: cls(*args, **kwargs), groups)
    instance = cls(*args, **kwargs)
    if len(groups) > 1 or groups[DEFAULT_GROUP] > 1:
        return ThreadedHost(instance, groups)
    return SyncHost(instance)


def has_async_methods(cls: type[Any]) -> bool:
    """Whether any method of the class is a coroutine or an async generator."""

    def is_async(member: Any) -> bool:
        return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)

    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):  # what `object` has is not async
        members.update(vars(base))
    return any(callable(member) and is_async(member) for member in members.values())


def concurrency_groups(cls: type[Any]) -> dict[str, int]:
    """The concurrency groups that the class declares, and how many methods run at once in each."""
    return dict(getattr(cls, "__aktis_concurrency_groups__", None) or {})


def call_limits(cls: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """How many methods run at once at most, outside of concurrency groups and in each of them.

    >>> class Plain: ...
    >>> call_limits(Plain, {"max_concurrency": 4, "concurrency_groups": {"io": 2}})
    {'calls_at_once': 4, 'concurrency_groups': {'io': 2}}
    """
    groups = options.get("concurrency_groups") or concurrency_groups(cls)
    default_group = options.get("max_concurrency") or (ASYNC_CONCURRENCY if has_async_methods(cls) else 1)
    return {"calls_at_once": default_group, "concurrency_groups": dict(groups)}


class ThreadedHost:
    """An actor whose methods run on a fixed number of threads."""

    kind = "threaded"

    def __init__(self, instance: Any, groups: dict[str, int]):
        self.instance = instance
        self._groups = {name: ThreadGroup(f"aktis-actor-{name or 'default'}", count) for name, count in groups.items()}

    def dispatch(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
        """Runs a method on the next free thread of its group."""
        group, bound = find_in_group(self.instance, method, self._groups)
        self._groups[group].submit(lambda: _run(bound, args, kwargs, done))


def _run(bound: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], done: Done) -> None:
    if _is_ending or not done.enter():
        return
    try:
        value = bound(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - everything is told to the caller
        done(None, error)
    else:
        done(value, None)


def find_method(instance: Any, name: str) -> Callable[..., Any]:
    """The method of this name, as the class has it: an attribute that ``__init__`` gave the same name does not hide it."""
    kind = type(instance)
    for base in kind.__mro__:
        if name in vars(base):
            member = vars(base)[name]
            bind = getattr(type(member), "__get__", None)
            return bind(member, instance, kind) if bind is not None else member  # type: ignore[no-any-return]
    return getattr(instance, name)  # type: ignore[no-any-return]


def find_in_group(instance: Any, name: str, groups: dict[str, Any]) -> tuple[str, Callable[..., Any]]:
    """The concurrency group of a call and the method it calls."""
    group, _, method = name.rpartition(GROUP_SEPARATOR)
    bound = find_method(instance, method)
    group = group or getattr(bound, "__aktis_method_options__", {}).get("concurrency_group") or DEFAULT_GROUP
    if group not in groups:
        known = ", ".join(repr(name) for name in groups if name) or "none"
        raise ValueError(f"method {method!r} asks for concurrency group {group!r}, but the actor declares {known}")
    return group, bound


def _ray_ready(self: Any) -> bool:
    return True


def _ray_terminate(self: Any) -> None:
    request_exit()
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
