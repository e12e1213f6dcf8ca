"""References of :func:`aktis.testing.local`: what a call will have given, and who waits for it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from aktis import _aktis
from aktis._messages import forgotten_get
from aktis._session.logging_level import logger

from . import carrying

#: After so long somebody should look at what is waited for.
PATIENCE_S = 10.0
#: Ids of tasks and of objects have these many bytes.
_TASK_BYTES, _INDEX_BYTES = 16, 4

#: Tells those who wait that something is there.
changed = threading.Condition()
_numbers = itertools.count(1)
_by_id: weakref.WeakValueDictionary[bytes, LocalRef] = weakref.WeakValueDictionary()
_LOGGER = logger("aktis.testing")


class Failure(NamedTuple):
    """Why there is no value, as :func:`aktis.exceptions._from_failure` takes it."""

    code: int
    message: str
    exception: bytes = b""
    traceback: str = ""

    def raised(self) -> BaseException:
        """The exception for one who asks."""
        from aktis.exceptions import _from_failure

        return _from_failure(*self)


class Cell:
    """What one reference stands for: nothing yet, a value, or a failure."""

    __slots__ = ("_callbacks", "_carried", "_failure", "is_ready", "name", "owner", "urge")

    def __init__(self, name: str, owner: object, urge: Callable[[], None] | None = None):
        """``owner``: of the call that makes it. ``urge``: what one does who waits, and cannot wait for others to do it."""
        self.name = name
        self.owner = owner
        self.urge = urge
        self.is_ready = False
        self._carried: carrying.Carried | None = None
        self._failure: Failure | None = None
        self._callbacks: list[Callable[[], None]] = []

    def give(self, carried: carrying.Carried) -> None:
        """The value is there."""
        self._settle(carried, None)

    def fail(self, failure: Failure) -> None:
        """There will be none."""
        self._settle(None, failure)

    def _settle(self, carried: carrying.Carried | None, failure: Failure | None) -> None:
        with changed:
            if self.is_ready:
                return
            self._carried, self._failure, self.is_ready = carried, failure, True
            callbacks, self._callbacks, self.urge = self._callbacks, [], None
            changed.notify_all()
        for callback in callbacks:
            callback()

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Calls ``callback``, once, in whichever thread makes the value; at once if it is there."""
        with changed:
            if not self.is_ready:
                self._callbacks.append(callback)
                return
        callback()

    @property
    def failure(self) -> Failure | None:
        """Why there is no value, if it is known that there will be none."""
        return self._failure

    def value(self) -> Any:
        """The value, a copy; raises the failure."""
        if self._failure is not None:
            raise self._failure.raised()
        assert self._carried is not None, "it is ready"
        return self._carried.value()


class LocalRef:
    """A reference. ``isinstance(ref, aktis.ObjectRef)`` is true of it."""

    def __init__(self, cell: Cell, task: bytes, index: int = 0):
        self._cell = cell
        self._id = task + (index + 1).to_bytes(_INDEX_BYTES, "little")
        _by_id[self._id] = self

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # type: ignore[override]
        return _aktis.ObjectRef

    def __class_getitem__(cls, _item: Any) -> Any:
        return cls

    def hex(self) -> str:
        return self._id.hex()

    def binary(self) -> bytes:
        return self._id

    def task_id(self) -> bytes:
        return self._id[:_TASK_BYTES]

    def is_ready(self) -> bool:
        return self._cell.is_ready

    def is_inline(self) -> bool:
        return True

    def on_ready(self, callback: Callable[[], None]) -> None:
        self._cell.on_ready(callback)

    def future(self) -> Any:
        from aktis._calls.futures import future

        urge(self._cell)
        return future(self)  # type: ignore[arg-type]

    def arrival(self) -> Any:
        """A future of the running loop, done when the value is there, or will never be."""
        import asyncio

        urge(self._cell)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()
        self._cell.on_ready(functools.partial(call_on, loop, _tell, arrived))
        return arrived

    def __await__(self) -> Generator[Any, None, Any]:
        yield from self.arrival()
        return self._cell.value()

    def __hash__(self) -> int:
        return hash(self._id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _aktis.ObjectRef):
            return self is other or self.binary() == other.binary()
        forgotten_get.compared(other)
        return False

    def __reduce__(self) -> Any:
        return _restored, (self._id,)

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"


forgotten_get.install(LocalRef)


def call_on(loop: Any, function: Callable[..., Any], *args: Any) -> None:
    """Calls a function on a loop, unless that was closed meanwhile: then nobody waits."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def _tell(arrived: Any) -> None:
    if not arrived.done():
        arrived.set_result(None)


def _restored(identity: bytes) -> LocalRef:
    ref = _by_id.get(identity)
    if ref is None:
        from aktis.exceptions import ObjectLostError

        raise ObjectLostError(
            f"the reference {identity.hex()} of an aktis.testing.local() is not held by anybody any more"
        )
    return ref


def new_task_id() -> bytes:
    """16 bytes that no other call of this machine has."""
    return next(_numbers).to_bytes(8, "big") + os.urandom(_TASK_BYTES - 8)


def cell_of(ref: Any) -> Cell:
    """What a reference stands for.

    Raises:
        NotConnectedError: it is not one of ``local()``.
    """
    if type(ref) is not LocalRef:
        from aktis.exceptions import NotConnectedError

        raise NotConnectedError(
            f"{ref!r} was made outside of aktis.testing.local(), whose calls know nothing of other sessions: make it within"
        )
    return ref._cell


def urge(cell: Cell) -> None:
    """Does what whoever waits for it has to do."""
    if not cell.is_ready and cell.urge is not None:
        cell.urge()


def wait_until(is_so: Callable[[], bool], timeout: float | None, what: Callable[[], str]) -> bool:
    """Waits for what other threads do; ``False``: not in time. After ten seconds a warning says for ``what``."""
    end = None if timeout is None else time.monotonic() + timeout
    complain_at = time.monotonic() + PATIENCE_S
    with changed:
        while not is_so():
            now = time.monotonic()
            if end is not None and now >= end:
                return False
            if now >= complain_at:
                complain_at = now + 6 * PATIENCE_S
                _LOGGER.warning("%s, and has for %g s", what(), PATIENCE_S)
            changed.wait(min(each for each in (end, complain_at) if each is not None) - now)
    return True
