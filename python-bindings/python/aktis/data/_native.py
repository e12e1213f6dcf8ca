"""The native module, loaded when it is first needed, in a session that is started if there is none."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


def plan() -> Recorder:
    """Makes plans that can be pickled."""
    from aktis import _aktis

    return Recorder(_aktis.data.Sources, ())


def jobs() -> Recorder:
    """Runs plans."""
    from aktis import _aktis

    return Recorder(_aktis.data.Jobs, ())


class Deferred(Protocol):
    """The beginning of a plan that is made by a run of another one, when a run needs it."""

    def outline(self) -> Recorder:
        """A plan with the same columns, which runs nothing to be made."""
        ...

    def settled(self) -> Recorder:
        """The plan."""
        ...


class Recorder:
    """A native plan that knows the calls that made it, so that it can be made again in another process.

    What a call of the native plan returns is recorded in its turn, if it is a plan.
    """

    def __init__(self, native: Any, calls: tuple[Call, ...], *, waits: bool = False) -> None:
        self._native = native
        self._calls = calls
        #: Whether it begins with a deferred plan, or takes one.
        self._waits = waits

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self._native, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                result = method(*_each_plan(args, lambda plan: plan._native), **kwargs)
            except OSError as error:
                raise as_meant(error) from None
            if type(result).__name__ != "Plan":
                return result
            taken: list[Recorder] = []
            _each_plan(args, taken.append)
            waits = self._waits or any(plan._waits for plan in taken)
            return Recorder(result, (*self._calls, Call(name, args, kwargs)), waits=waits)

        return call

    def __deepcopy__(self, _memo: Any) -> Recorder:
        # It never changes.
        return self

    def __reduce__(self) -> Any:
        return replay, (self._calls,)


def _each_plan(argument: Any, of_plan: Callable[[Recorder], Any]) -> Any:
    """An argument with what `of_plan` makes of recorded plans in their places."""
    if isinstance(argument, Recorder):
        return of_plan(argument)
    if type(argument) in (list, tuple):
        return type(argument)(_each_plan(item, of_plan) for item in argument)
    return argument


_DEFERRED = "deferred"


def deferred(beginning: Deferred) -> Recorder:
    """A plan that begins with what a run will have made."""
    return Recorder(beginning.outline()._native, (Call(_DEFERRED, (beginning,), {}),), waits=True)


def settled(plan: Any) -> Any:
    """The plan with everything in place that it begins with: runs what is missing."""
    if not isinstance(plan, Recorder) or not plan._waits:
        return plan
    result = _root(plan._calls, lambda beginning: beginning.settled())
    for call in plan._calls:
        if call.name != _DEFERRED:
            result = getattr(result, call.name)(*_each_plan(call.args, settled), **call.kwargs)
    return result


def _root(calls: tuple[Call, ...], of_deferred: Callable[[Deferred], Recorder]) -> Recorder:
    return of_deferred(calls[0].args[0]) if calls and calls[0].name == _DEFERRED else plan()


class Call(NamedTuple):
    """A method of a plan that gave the next plan."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def as_meant(error: OSError) -> OSError:
    """An error of reading or writing files, as Python's own functions raise it.

    >>> text = "read /data/a.parquet: it is not a valid Parquet file (External: ...: Permission denied (os error 13))"
    >>> as_meant(OSError(text))  # doctest: +ELLIPSIS
    PermissionError(13, 'permission denied for user ...')
    >>> as_meant(OSError(text)).filename
    '/data/a.parquet'
    """
    path = re.match(r"(?:read|write) (.+?): ", str(error))
    if path is None or f"(os error {errno.EACCES})" not in str(error):
        return error
    return PermissionError(errno.EACCES, f"permission denied for user {os.geteuid()}", path.group(1))


def replay(calls: tuple[Call, ...]) -> Recorder:
    """The plan that these calls make."""
    result = _root(calls, deferred)
    for call in calls:
        if call.name != _DEFERRED:
            result = getattr(result, call.name)(*call.args, **call.kwargs)
    return result


def expression(data: bytes) -> Any:
    """A part of a plan that was pickled: an expression."""
    from aktis import _aktis

    return _aktis.data.Expression.from_bytes(data)


def ensure_session() -> None:
    """Starts a session on this machine if there is none, as Ray does."""
    import aktis

    if not aktis.is_initialized():
        aktis.init()


def shows_progress() -> bool:
    """Whether the setting ``progress`` is on."""
    from aktis import _aktis

    return _aktis.shows_progress()
