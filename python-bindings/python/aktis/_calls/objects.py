"""Objects: ``put``, ``get``, ``wait``; and ``cancel``, which takes their references."""

from __future__ import annotations

import math
from typing import Any, Literal, NoReturn, TypeVar, overload

from .._aktis import ObjectRef, ObjectRefGenerator
from .._session import session

T = TypeVar("T")
Ref = TypeVar("Ref", bound="ObjectRef[Any]")
Stream = TypeVar("Stream", bound="ObjectRefGenerator[Any]")
Transport = Literal["object_store"] | None


def put(value: T, _owner: None = None, _tensor_transport: Transport = None) -> ObjectRef[T]:
    """Stores a value once, for any number of tasks to use.

    Passing the reference to many tasks sends the value once to each node, not once per task. Arrays and Arrow tables are
    read in place.

    Args:
        value: anything that can be pickled, but not a reference.
        _owner: only ``None``: the process that calls ``put`` owns the value (Ray removed this, too).
        _tensor_transport: only ``None`` or ``"object_store"``.

    Returns:
        A reference. The value is kept as long as there is one.

    Raises:
        TypeError: the value is a reference, or cannot be pickled.
        ValueError: an argument of Ray's that Aktis does not have.
        ObjectStoreFullError: the value does not fit into the object store.

    >>> import aktis
    >>> ref = aktis.put([1, 2, 3])
    >>> aktis.get(ref)
    [1, 2, 3]
    """
    # Not by keyword only, as Ray takes them: the interpreter looks such defaults up in a dict for each call.
    if _owner is not None or _tensor_transport is not None:
        _refuse_put(_owner, _tensor_transport)
    while (ref := session.runtime.put(value)) is NotImplemented:
        session.ensure_connected()
        if isinstance(value, ObjectRef):
            raise TypeError(
                "put() was given an ObjectRef: the object is stored already, use the reference itself, or wrap it in a list "
                "to store the reference as a value"
            )
    return ref  # type: ignore[no-any-return]


def _refuse_put(owner: Any, transport: Any) -> None:
    if owner is not None:
        raise ValueError(
            "put() has no _owner (Ray removed it in 2.56): the process that calls put() owns the value. Call put() in a "
            "method of the actor that is to own it, and return the reference in a list"
        )
    _check_transport("put", transport)


def _check_transport(function: str, transport: Any) -> None:
    if transport not in (None, "object_store"):
        raise ValueError(
            f"{function}() has no _tensor_transport={transport!r}: values travel by the object store only. Leave it out"
        )


@overload
def get(
    object_refs: ObjectRef[T],
    *,
    timeout: float | None = None,
    _tensor_transport: Transport = None,
    _use_object_store: bool = True,
) -> T: ...
@overload
def get(
    object_refs: list[ObjectRef[T]],
    *,
    timeout: float | None = None,
    _tensor_transport: Transport = None,
    _use_object_store: bool = True,
) -> list[T]: ...
@overload
def get(
    object_refs: list[Ref],
    *,
    timeout: float | None = None,
    _tensor_transport: Transport = None,
    _use_object_store: bool = True,
) -> list[Any]: ...
def get(
    object_refs: Any,
    timeout: float | None = None,
    _tensor_transport: Transport = None,
    _use_object_store: bool = True,
) -> Any:
    """The value of a reference, or the list of values of a list of references. Waits until they are there.

    Args:
        object_refs: a reference or a list of references. A generator of references is its own value, as in Ray.
        timeout: seconds to wait at most; 0 looks once; ``None`` waits as long as it takes.
        _tensor_transport: only ``None`` or ``"object_store"``.
        _use_object_store: Ray's; changes nothing, since values travel by the object store only.

    Returns:
        The value, or a list of as many values as there are references, in their order. Arrays are read-only, because they lie
        in memory that other processes read, too: change a copy, ``array.copy()``.

    Raises:
        TaskError: the task raised. The exception is also of the type that the task raised.
        GetTimeoutError: ``timeout`` has passed. It is a ``TimeoutError``.
        NotConnectedError: the session of the reference is over.
        AktisError: the value was lost; the type says how (see :mod:`aktis.exceptions`).
        ValueError: ``object_refs`` is something else.
        RuntimeError: an actor that runs one method at a time waits for a method of its own.

    >>> import aktis
    >>> aktis.get(aktis.put("one"))
    'one'
    >>> aktis.get([aktis.put(1), aktis.put(2)])
    [1, 2]
    """
    if timeout is not None:
        _check_timeout(timeout)
    if _tensor_transport is not None:
        _check_transport("get", _tensor_transport)
    if session.before_get is not None:
        session.before_get(object_refs)
    value = session.runtime.get(object_refs, timeout)
    if value is NotImplemented:
        if isinstance(object_refs, ObjectRefGenerator):
            return object_refs
        _check_get(object_refs)
    return value


def _check_get(refs: Any) -> None:
    if isinstance(refs, ObjectRef):  # whose value is NotImplemented
        _refuse_other_session(refs)
        return
    if not isinstance(refs, list):
        raise ValueError(  # noqa: TRY004
            f"get() takes an ObjectRef or a list of them: got {_described(refs)}" + _way_to_a_reference(refs)
        )
    for index, ref in enumerate(refs):
        if not isinstance(ref, ObjectRef):
            raise ValueError(  # noqa: TRY004
                f"get() takes a list of ObjectRefs: item {index} is {_described(ref)}"
            )
        _refuse_other_session(ref)


def _refuse_other_session(ref: Any) -> None:
    """Raises for a reference that the native module has not made, and local() has not either, or it would have its value."""
    if type(ref) not in (ObjectRef, ObjectRefGenerator) and session.local() is None:
        from ..exceptions import NotConnectedError

        raise NotConnectedError(f"{ref!r} ended with its aktis.testing.local(), which is over: get it within")


def _way_to_a_reference(value: Any) -> str:
    """What was probably meant."""
    if isinstance(value, (tuple, set)):
        return ". Make it a list"
    if isinstance(value, dict):
        return ". Make it a list, list(refs.values())"
    called = getattr(value, "__self__", value)  # `square.remote`, without brackets
    if callable(getattr(type(called), "remote", None)):
        return ". Call it, and get what that gives: .remote(...)"
    return ""


@overload
def wait(
    ray_waitables: list[Ref], *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[Ref], list[Ref]]: ...
@overload
def wait(
    ray_waitables: list[Stream], *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[Stream], list[Stream]]: ...
@overload
def wait(
    ray_waitables: list[ObjectRef[Any] | ObjectRefGenerator[Any]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[Any] | ObjectRefGenerator[Any]], list[ObjectRef[Any] | ObjectRefGenerator[Any]]]: ...
def wait(
    ray_waitables: list[Any], *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[Any], list[Any]]:
    """Waits until some of the references are ready.

    Args:
        ray_waitables: references, each once. A generator is ready when its next reference is, or it has ended.
        num_returns: how many must be ready.
        timeout: seconds to wait at most; 0 looks once; ``None`` waits as long as it takes.
        fetch_local: changes nothing: objects are fetched when they are read, so one that is ready may still be on another
            node.

    Returns:
        At most ``num_returns`` references that are ready, and all others. Both keep the order in which they were given. A task that
        failed is ready: ``get`` raises its error.

    Raises:
        TypeError: an argument is of a wrong type: one reference instead of a list, for example.
        ValueError: a reference occurs twice, ``num_returns`` is more than there are, or ``timeout`` is negative.
        RuntimeError: this is a forked child of the process that has the session.

    >>> import aktis
    >>> refs = [aktis.put(1), aktis.put(2)]
    >>> ready, pending = aktis.wait(refs)
    >>> len(ready), len(pending)
    (1, 1)
    """
    session.refuse_in_forked_child()
    refs = ray_waitables
    if not isinstance(refs, list):
        raise TypeError(f"wait() takes a list of ObjectRefs: got {_described(refs)}")
    if timeout is not None:
        _check_timeout(timeout)
    if not refs:
        return [], []
    if isinstance(num_returns, bool) or not hasattr(num_returns, "__index__"):
        raise TypeError(f"num_returns must be a whole number: got {_described(num_returns)}")
    if not isinstance(fetch_local, bool):
        raise TypeError(f"fetch_local must be True or False: got {_described(fetch_local)}")
    if not 1 <= num_returns <= len(refs):
        raise ValueError(f"num_returns must be between 1 and the number of references, {len(refs)}: got {num_returns}")
    split: tuple[list[Any], list[Any]] | None = session.runtime.wait(refs, num_returns, timeout)
    return split if split is not None else _wait_with_generators(refs, num_returns, timeout)


def _wait_with_generators(refs: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
    """Waits for the next items of generators in their place."""
    if len({id(ref) for ref in refs}) != len(refs) or not any(isinstance(ref, ObjectRefGenerator) for ref in refs):
        _refuse_wait(refs)
    given = {ref._peek() if isinstance(ref, ObjectRefGenerator) else ref: ref for ref in refs}
    split = session.runtime.wait(list(given), num_returns, timeout) if len(given) == len(refs) else None
    if split is None:
        _refuse_wait(refs)
    ready, pending = split
    return [given[ref] for ref in ready], [given[ref] for ref in pending]


def _refuse_wait(refs: list[Any]) -> NoReturn:
    for index, ref in enumerate(refs):
        if not isinstance(ref, (ObjectRef, ObjectRefGenerator)):
            raise TypeError(f"wait() takes a list of ObjectRefs: item {index} is {_described(ref)}")
        _refuse_other_session(ref)
    raise ValueError("wait() takes a list of unique ObjectRefs: one of them occurs twice")


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None: got {_described(timeout)}")
    if timeout < 0 or math.isnan(timeout):
        raise ValueError(f"timeout cannot be negative: got {timeout}")


def _described(value: Any) -> str:
    return f"{value!r} of type {type(value).__name__}"[:200]


def cancel(
    ray_waitable: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancels a task or a method call. One that has ended stays as it is.

    What has not begun never does. A running task gets a ``KeyboardInterrupt``, a method of an async actor an
    ``asyncio.CancelledError``; other methods can ask ``get_runtime_context().is_canceled()``. The references then raise
    :class:`~aktis.exceptions.TaskCancelledError`, and nothing is retried.

    Args:
        ray_waitable: a reference that the task makes, or its generator.
        force: end the worker process that runs the task. If others hold references to what it owns, it first gets a second to
            end by itself, and then stays for them; if it has to be killed, they get an ``OwnerDiedError``. Not for calls of
            actors.
        recursive: cancel what the task has submitted itself, too.

    Raises:
        TypeError: ``ray_waitable`` is something else.
        ValueError: ``force`` is set for a call of an actor.

    >>> import aktis, time
    >>> @aktis.remote
    ... def sleep():
    ...     time.sleep(60)
    >>> ref = sleep.remote()
    >>> aktis.cancel(ref)
    >>> aktis.get(ref, timeout=30)
    Traceback (most recent call last):
    ...
    aktis.exceptions.TaskCancelledError: task sleep was cancelled
    """
    session.refuse_in_forked_child()
    if not isinstance(ray_waitable, (ObjectRef, ObjectRefGenerator)):
        raise TypeError(
            f"cancel() takes an ObjectRef or a generator (for actors there is kill()): got {_described(ray_waitable)}"
        )
    session.runtime.cancel(ray_waitable, bool(force), bool(recursive))
