"""A first-in first-out queue that tasks and actors share."""

from __future__ import annotations

import queue as _standard
from typing import TYPE_CHECKING, Any

from aktis._calls.decorators import remote
from aktis._calls.objects import get

from ..actor import kill
from ..exceptions import ActorError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Empty(_standard.Empty):
    """Nothing was in the queue in time. Also a ``queue.Empty`` of the standard library."""


class Full(_standard.Full):
    """There was no room in the queue in time. Also a ``queue.Full`` of the standard library."""


class Queue:
    """A queue that lives in an actor; it can be passed to tasks and other actors.

    Args:
        maxsize: how many items it holds; 0 is without limit.
        actor_options: of the actor, see :meth:`ActorClass.options <aktis.actor.ActorClass.options>`.

    >>> from aktis.util.queue import Queue
    >>> queue = Queue(maxsize=10)
    >>> queue.put("first")
    >>> queue.put_nowait("second")
    >>> queue.get(), queue.qsize()
    ('first', 1)
    >>> queue.put_nowait_batch([1, 2, 3])
    >>> queue.get_nowait_batch(3)
    ['second', 1, 2]
    >>> queue.get_nowait(), queue.empty(), queue.full()
    (3, True, False)

    In coroutines:

    >>> import asyncio
    >>> async def pass_on():
    ...     await queue.put_async("later", timeout=30)
    ...     return await queue.get_async(timeout=30)
    >>> asyncio.run(pass_on())
    'later'
    >>> queue.shutdown()
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None):
        self.maxsize = maxsize
        options: dict[str, Any] = actor_options or {}
        self.actor: Any = remote(_QueueActor).options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items are in it.

        Returns:
            A number that others may have changed meanwhile. Also called ``qsize``.
        """
        return int(get(self.actor.qsize.remote()))

    qsize = size

    def empty(self) -> bool:
        """Whether nothing is in it.

        Returns:
            As :meth:`size`, it may be out of date at once.
        """
        return self.size() == 0

    def full(self) -> bool:
        """Whether there is no room in it.

        Returns:
            ``False`` for a queue without limit. It may be out of date at once.
        """
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Appends an item.

        Args:
            item: anything that can be pickled.
            block: wait for room.
            timeout: seconds to wait at most.

        Raises:
            Full: there was no room in time.
        """
        if not get(self.actor.put.remote(item, *_wait(block, timeout))):
            raise Full

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As :meth:`put`, for coroutines: others run while it waits.

        Args:
            item: as for :meth:`put`.
            block: as for :meth:`put`.
            timeout: as for :meth:`put`.

        Raises:
            Full: there was no room in time.
        """
        if not await self.actor.put.remote(item, *_wait(block, timeout)):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes the first item out.

        Args:
            block: wait for one.
            timeout: seconds to wait at most.

        Returns:
            The item.

        Raises:
            Empty: there was none in time.
        """
        return _only(get(self.actor.get.remote(*_wait(block, timeout))))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """As :meth:`get`, for coroutines: others run while it waits.

        Args:
            block: as for :meth:`get`.
            timeout: as for :meth:`get`.

        Returns:
            The item.

        Raises:
            Empty: there was none in time.
        """
        return _only(await self.actor.get.remote(*_wait(block, timeout)))

    def put_nowait(self, item: Any) -> None:
        """``put(item, block=False)``.

        Args:
            item: as for :meth:`put`.

        Raises:
            Full: there is no room.
        """
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """``get(block=False)``.

        Returns:
            The item.

        Raises:
            Empty: there is none.
        """
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Appends all items, or none.

        Args:
            items: anything that can be pickled, in order.

        Raises:
            Full: there is no room for all of them.
        """
        if not get(self.actor.put_batch.remote(list(items))):
            raise Full(f"no room for that many items in a queue of {self.maxsize}")

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Takes exactly that many items out.

        Args:
            num_items: how many, 0 or more.

        Returns:
            A list of them, the first first.

        Raises:
            Empty: there are fewer; then none is taken.
            ValueError: ``num_items`` is no such number.
        """
        if not isinstance(num_items, int) or num_items < 0:
            raise ValueError(f"num_items must be a whole number of 0 or more: got {num_items!r}")
        items = get(self.actor.get_batch.remote(num_items))
        if items is None:
            raise Empty(f"fewer than {num_items} items are in the queue")
        return list(items)

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """Ends the queue's actor; items left in it are lost.

        Args:
            force: at once, also when calls wait for it.
            grace_period_s: how long it may take to end by itself.
        """
        if self.actor is None:
            return
        if not force:
            try:
                get(self.actor.__ray_terminate__.remote(), timeout=grace_period_s)
            except (ActorError, TimeoutError):
                pass
        kill(self.actor)
        self.actor = None


def _wait(block: bool, timeout: float | None) -> tuple[bool, float | None]:
    if block and timeout is not None and timeout < 0:
        raise ValueError(f"timeout cannot be negative: got {timeout}")
    return block, timeout


def _only(items: list[Any]) -> Any:
    if not items:
        raise Empty
    return items[0]


class _QueueActor:
    """The items. Async, so that those who wait do not keep others out."""

    def __init__(self, maxsize: int):
        import asyncio

        self._maxsize = maxsize
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._queue.qsize()

    async def put(self, item: Any, block: bool, timeout: float | None) -> bool:
        import asyncio

        try:
            if block:
                await asyncio.wait_for(self._queue.put(item), timeout)
            else:
                self._queue.put_nowait(item)
        except (asyncio.QueueFull, TimeoutError):
            return False
        return True

    async def get(self, block: bool, timeout: float | None) -> list[Any]:
        """One item in a list, or none."""
        import asyncio

        try:
            return [await asyncio.wait_for(self._queue.get(), timeout) if block else self._queue.get_nowait()]
        except (asyncio.QueueEmpty, TimeoutError):
            return []

    async def put_batch(self, items: list[Any]) -> bool:
        if self._maxsize and self._queue.qsize() + len(items) > self._maxsize:
            return False
        for item in items:
            self._queue.put_nowait(item)
        return True

    async def get_batch(self, count: int) -> list[Any] | None:
        if self._queue.qsize() < count:
            return None
        return [self._queue.get_nowait() for _ in range(count)]
