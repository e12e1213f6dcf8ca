"""The native module, loaded when it is first needed, in a session that is started if there is none."""

from __future__ import annotations

import errno
import os
import re
from typing import Any, NamedTuple


def plan() -> Recorder:
    """Makes plans that can be pickled."""
    from aktis import _aktis

    return Recorder(_aktis.data.Plan, ())


class Recorder:
    """A native plan that knows the calls that made it, so that it can be made again in another process.

    What a call of the native plan returns is recorded in its turn, if it is a plan.
    """

    def __init__(self, native: Any, calls: tuple[Call, ...]) -> None:
        self._native = native
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self._native, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                result = method(*map(_unwrapped, args), **kwargs)
            except OSError as error:
                raise as_meant(error) from None
            is_plan = type(result).__name__ == "Plan"
            return Recorder(result, (*self._calls, Call(name, args, kwargs))) if is_plan else result

        return call

    def __deepcopy__(self, _memo: Any) -> Recorder:
        # It never changes.
        return self

    def __reduce__(self) -> Any:
        return replay, (self._calls,)


def _unwrapped(argument: Any) -> Any:
    """An argument with native plans in the place of recorded ones."""
    if isinstance(argument, Recorder):
        return argument._native
    if type(argument) in (list, tuple):
        return type(argument)(map(_unwrapped, argument))
    return argument


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
    result = plan()
    for call in calls:
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
