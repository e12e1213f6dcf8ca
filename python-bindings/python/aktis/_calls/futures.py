"""References as awaitables and futures. Called by the native classes ``ObjectRef`` and ``ObjectRefGenerator``.

Each event loop watches one descriptor, which becomes readable when something arrives that its coroutines await:

```text
 await ref ─► Arrivals.await_object(ref, token)        object ready ─► descriptor ─► loop: take() ─► future of the token
```
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any

from .. import _aktis
from .._process.threads import ThreadGroup
from .._session import session
from ..exceptions import GetTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._aktis import ObjectRef, ObjectRefGenerator
    from .._process.actor_host import Done

#: Bring values that are stored, maybe on another node or on disk, to coroutines that await them. Not the default executor of
#: the user's loop: what waits here would hold up his name look-ups, and what he has put there would hold up this.
_fetchers = ThreadGroup("aktis-fetch", 64)


class _LoopArrivals:
    """What the coroutines of one event loop await. Only used on the thread of the loop."""

    def __init__(self) -> None:
        self._arrivals = _aktis.Arrivals()
        self._tokens = itertools.count()
        self._told: dict[int, Callable[[], None]] = {}

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._arrivals.fileno(), self._tell)

    def await_object(self, ref: ObjectRef, tell: Callable[[], None]) -> None:
        """Calls ``tell``, once, when the object is ready or has failed."""
        token = next(self._tokens)
        self._told[token] = tell
        self._arrivals.await_object(ref, token)

    def await_item(self, generator: ObjectRefGenerator, tell: Callable[[], None]) -> None:
        """Calls ``tell``, once, when the next item is there, or the end."""
        token = next(self._tokens)
        self._told[token] = tell
        self._arrivals.await_item(generator, token)

    def await_room(self, call: Done, tell: Callable[[], Any]) -> int | None:
        """``None`` if the call may make its next item. Otherwise ``tell`` is called, once, when its consumer has read
        something, unless the number returned is given to :meth:`forget`.
        """
        token = next(self._tokens)
        self._told[token] = tell
        if not self._arrivals.await_room(call, token):
            return token
        del self._told[token]
        return None

    def forget(self, token: int) -> None:
        """Nobody waits for this any more."""
        self._told.pop(token, None)

    def _tell(self) -> None:
        for token in self._arrivals.take():
            tell = self._told.pop(token, None)
            if tell is not None:
                tell()


_arrivals: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopArrivals] = weakref.WeakKeyDictionary()


def arrivals_of(loop: asyncio.AbstractEventLoop) -> _LoopArrivals:
    """What the coroutines of this loop await."""
    arrivals = _arrivals.get(loop)
    if arrivals is None:
        arrivals = _LoopArrivals()
        arrivals.watch(loop)
        _arrivals[loop] = arrivals
    return arrivals


def await_ref(ref: ObjectRef) -> Generator[Any, None, Any]:
    """The iterator behind ``await ref``."""
    return asyncio_future(ref).__await__()


def asyncio_future(ref: ObjectRef) -> asyncio.Future[Any]:
    """A future of the running event loop for the value of ``ref``."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()
    if ref.is_ready():
        _deliver_on_loop(ref, result, loop)
    else:
        arrivals_of(loop).await_object(ref, lambda: _deliver_on_loop(ref, result, loop))
    return result


def _deliver_on_loop(ref: ObjectRef, result: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Moves the value of a reference that is ready into a future, without keeping the loop from its other work."""
    if ref.is_inline():
        _deliver(ref, result)
        return

    def fetch() -> None:  # in a thread: the object may be on another node, or on disk
        fetched: concurrent.futures.Future[Any] = concurrent.futures.Future()
        _deliver(ref, fetched)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody awaits it
            loop.call_soon_threadsafe(_pass_on, fetched, result)

    _fetchers.submit(fetch)


def _pass_on(fetched: concurrent.futures.Future[Any], result: asyncio.Future[Any]) -> None:
    if result.done():  # cancelled meanwhile
        return
    error = fetched.exception()
    if error is None:
        result.set_result(fetched.result())
    else:
        result.set_exception(error)


def future(ref: ObjectRef) -> concurrent.futures.Future[Any]:
    """A ``concurrent.futures.Future`` for the value of ``ref``."""
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def ready() -> None:  # in the thread of all callbacks: fetching and what the user does may take long
        threading.Thread(target=_deliver, args=(ref, result), name="aktis-future", daemon=True).start()

    if ref.is_ready():
        _deliver(ref, result)
    else:
        ref.on_ready(ready)
    return result


def _deliver(ref: ObjectRef, result: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
    """Moves the value of a reference that is ready into a future."""
    if result.done():
        return
    try:
        (value,) = session.runtime.get([ref], None)
    except BaseException as error:  # noqa: BLE001 - goes to whoever awaits the future
        result.set_exception(error)
    else:
        result.set_result(value)


async def anext_ref(generator: ObjectRefGenerator) -> ObjectRef:
    """The coroutine behind ``__anext__`` of a generator of references."""
    loop = asyncio.get_running_loop()
    while True:
        if not generator.next_ready():
            await _next_ready(generator, loop)
        try:
            return generator.next_within(0)
        except GetTimeoutError:  # another consumer was faster
            continue
        except StopIteration:
            raise StopAsyncIteration from None


async def _next_ready(generator: ObjectRefGenerator, loop: asyncio.AbstractEventLoop) -> None:
    arrived: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not arrived.done():
            arrived.set_result(None)

    arrivals_of(loop).await_item(generator, tell)
    await arrived
