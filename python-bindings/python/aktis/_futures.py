"""References as awaitables and futures. Called by the native classes ``ObjectRef`` and ``ObjectRefGenerator``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from . import _aktis
from .exceptions import GetTimeoutError

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._aktis import ObjectRef, ObjectRefGenerator


def await_ref(ref: ObjectRef) -> Generator[Any, None, Any]:
    """The iterator behind ``await ref``."""
    return asyncio_future(ref).__await__()


def asyncio_future(ref: ObjectRef) -> asyncio.Future[Any]:
    """A future of the running event loop for the value of ``ref``."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()
    if ref.is_ready():
        _deliver(ref, result)
        return result

    def ready() -> None:  # in a runtime thread
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_deliver, ref, result)

    ref.on_ready(ready)
    return result


def future(ref: ObjectRef) -> concurrent.futures.Future[Any]:
    """A ``concurrent.futures.Future`` for the value of ``ref``."""
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def ready() -> None:  # in a runtime thread, which must not wait: fetching and callbacks of the user may take long
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
        (value,) = _aktis.get([ref], None)
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

    def deliver() -> None:
        if not arrived.done():
            arrived.set_result(None)

    def ready() -> None:  # in a runtime thread
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver)

    generator.on_next(ready)
    await arrived
