"""A fixed set of actors that share work."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._objects import get, wait
from ..exceptions import GetTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._aktis import ObjectRef
    from ..actor import ActorHandle

Item = TypeVar("Item")


class ActorPool(Generic[Item]):
    """Gives each piece of work to the next actor that is free.

    Args:
        actors: handles; none of them should have work already.

    >>> import aktis
    >>> @aktis.remote
    ... class Doubler:
    ...     def double(self, x):
    ...         return 2 * x
    >>> pool = aktis.util.ActorPool([Doubler.remote(), Doubler.remote()])
    >>> list(pool.map(lambda actor, x: actor.double.remote(x), [1, 2, 3]))
    [2, 4, 6]
    """

    def __init__(self, actors: Iterable[ActorHandle]):
        self._idle: deque[ActorHandle] = deque(actors)
        #: Running work: the actor and the number of each reference, in the order in which it was submitted.
        self._running: dict[ObjectRef, tuple[int, ActorHandle]] = {}
        self._ref_of: dict[int, ObjectRef] = {}
        self._waiting: deque[tuple[Callable[[ActorHandle, Item], ObjectRef], Item]] = deque()
        self._submitted = 0
        self._returned = 0

    def map(self, fn: Callable[[ActorHandle, Item], ObjectRef], values: Iterable[Item]) -> Iterator[Any]:
        """The results of ``fn(actor, value)`` for all values, in their order. Work starts at once.

        Args:
            fn: calls a method of the actor and returns its reference.
            values: one for each call.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(self, fn: Callable[[ActorHandle, Item], ObjectRef], values: Iterable[Item]) -> Iterator[Any]:
        """As :meth:`map`, but each result as soon as it is there."""
        return self._map(fn, values, self.get_next_unordered)

    def _map(
        self, fn: Callable[[ActorHandle, Item], ObjectRef], values: Iterable[Item], take: Callable[..., Any]
    ) -> Iterator[Any]:
        while self.has_next():  # results of earlier work that nobody asked for
            take(ignore_if_timedout=True, timeout=0)
        for value in values:
            self.submit(fn, value)
        return self._drain(take)

    def _drain(self, take: Callable[..., Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def submit(self, fn: Callable[[ActorHandle, Item], ObjectRef], value: Item) -> None:
        """Starts ``fn(actor, value)`` on a free actor, or keeps it until one is free."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        ref = fn(actor, value)
        self._running[ref] = (self._submitted, actor)
        self._ref_of[self._submitted] = ref
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there is work of which the result was not taken yet."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission.

        Raises:
            StopIteration: there is no more work.
            TimeoutError: ``timeout`` seconds have passed.
        """
        if not self.has_next():
            raise StopIteration("the pool has no more results to get")
        while self._returned not in self._ref_of:  # taken by get_next_unordered
            self._returned += 1
        ref = self._ref_of[self._returned]
        if not self._is_ready([ref], timeout, ignore_if_timedout):
            self._returned += 1
            self._take(ref)
            return None
        self._returned += 1
        return get(self._take(ref))

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result that is there.

        Raises:
            StopIteration: there is no more work.
            TimeoutError: ``timeout`` seconds have passed.
        """
        if not self.has_next():
            raise StopIteration("the pool has no more results to get")
        refs = list(self._running)
        ready = self._is_ready(refs, timeout, ignore_if_timedout)
        ref = self._take(ready[0] if ready else refs[0])
        return get(ref) if ready else None

    def _is_ready(self, refs: list[ObjectRef], timeout: float | None, ignore_if_timedout: bool) -> list[ObjectRef]:
        ready, _ = wait(refs, num_returns=1, timeout=timeout)
        if not ready and not ignore_if_timedout:
            raise GetTimeoutError(f"no result of the actor pool within {timeout} s")
        return ready

    def _take(self, ref: ObjectRef) -> ObjectRef:
        number, actor = self._running.pop(ref)
        del self._ref_of[number]
        self.push(actor)
        return ref

    def has_free(self) -> bool:
        """Whether an actor is free and no work waits."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle | None:
        """Takes a free actor out of the pool; ``None`` if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle) -> None:
        """Adds a free actor to the pool.

        Raises:
            ValueError: it is in the pool already.
        """
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError(f"{actor!r} is in the pool already")
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())
