"""A fixed set of actors that share work."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aktis._calls.objects import get, wait

from .._aktis import ObjectRef
from ..actor import ActorClass, ActorHandle
from ..exceptions import ActorDiedError, GetTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")


class ActorPool:
    """Gives each piece of work to the next actor that is free.

    An actor that has died is taken out of the pool when the error of its work is; the others do the rest.

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
    >>> sorted(pool.map_unordered(lambda actor, x: actor.double.remote(x), [1, 2, 3]))
    [2, 4, 6]

    Or piece by piece:

    >>> pool.submit(lambda actor, x: actor.double.remote(x), 10)
    >>> pool.submit(lambda actor, x: actor.double.remote(x), 20)
    >>> pool.has_next(), pool.has_free()
    (True, False)
    >>> pool.get_next(timeout=30), pool.get_next_unordered(timeout=30), pool.has_next()
    (20, 40, False)
    >>> actor = pool.pop_idle()
    >>> pool.push(actor)
    """

    def __init__(self, actors: Iterable[ActorHandle[Any]]):
        self._idle: deque[ActorHandle[Any]] = deque(map(_checked_actor, actors))
        #: Running work, in the order in which it was submitted, by the first reference of each piece.
        self._running: dict[ObjectRef[Any], _Work] = {}
        self._ref_of: dict[int, ObjectRef[Any]] = {}
        self._waiting: deque[tuple[Callable[[ActorHandle[Any], Any], Any], Any]] = deque()
        self._submitted = 0
        self._returned = 0
        #: Why the last actor of the pool was taken out of it.
        self._death: ActorDiedError | None = None

    def map(self, fn: Callable[[ActorHandle[Any], Item], Any], values: Iterable[Item]) -> Iterator[Any]:
        """The results of ``fn(actor, value)`` for all values, in their order. Work starts at once.

        Args:
            fn: calls a method of the actor and returns its reference, or its list of references.
            values: one for each call.

        Returns:
            An iterator: each step waits for the next value. What a method raises is raised there, and the iterator goes on after.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(self, fn: Callable[[ActorHandle[Any], Item], Any], values: Iterable[Item]) -> Iterator[Any]:
        """As :meth:`map`, but each result as soon as it is there.

        Args:
            fn: as for :meth:`map`.
            values: as for :meth:`map`.

        Returns:
            An iterator of the results in the order in which they are ready.
        """
        return self._map(fn, values, self.get_next_unordered)

    def _map(
        self, fn: Callable[[ActorHandle[Any], Item], Any], values: Iterable[Item], take: Callable[..., Any]
    ) -> Iterator[Any]:
        while self.has_next():  # results of earlier work that nobody asked for
            with contextlib.suppress(TimeoutError):
                take(ignore_if_timedout=True, timeout=0)
        for value in values:
            self.submit(fn, value)
        return self._drain(take)

    def _drain(self, take: Callable[..., Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def submit(self, fn: Callable[[ActorHandle[Any], Item], Any], value: Item) -> None:
        """Starts ``fn(actor, value)`` on a free actor, or keeps it until one is free.

        Args:
            fn: as for :meth:`map`.
            value: its second argument.

        Raises:
            TypeError: ``fn`` returns something else than references.
        """
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        refs = fn(actor, value)
        first = refs[0] if isinstance(refs, list) and refs else refs
        if not isinstance(first, ObjectRef):
            self._idle.append(actor)
            raise TypeError(
                "the function of an actor pool returns the reference that actor.method.remote(...) gives, or a list of them: "
                f"got {first!r} of type {type(first).__name__}"
            )
        self._running[first] = _Work(self._submitted, actor, refs)
        self._ref_of[self._submitted] = first
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there is work of which the result was not taken yet.

        Returns:
            ``True`` if :meth:`get_next` has something to wait for.
        """
        return bool(self._running) or self._is_deserted()

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission.

        Args:
            timeout: seconds to wait at most.
            ignore_if_timedout: then give up this result, too: the next call returns the one after it.

        Returns:
            The value, or the list of values if ``fn`` gave a list of references.

        Raises:
            StopIteration: there is no more work.
            TimeoutError: ``timeout`` seconds have passed.
            ActorDiedError: the actor that did the work is dead, or none is left to do it.
        """
        self._check_next()
        while self._returned not in self._ref_of:  # taken by get_next_unordered
            self._returned += 1
        ref = self._ref_of[self._returned]
        is_ready = self._wait_for([ref], timeout, ignore_if_timedout)
        self._returned += 1
        return self._take(ref, is_ready=bool(is_ready), timeout=timeout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result that is there.

        Args:
            timeout: seconds to wait at most.
            ignore_if_timedout: then give up the result that was submitted first.

        Returns:
            As :meth:`get_next`.

        Raises:
            StopIteration: there is no more work.
            TimeoutError: ``timeout`` seconds have passed.
            ActorDiedError: the actor that did the work is dead, or none is left to do it.
        """
        self._check_next()
        refs = list(self._running)
        ready = self._wait_for(refs, timeout, ignore_if_timedout)
        return self._take(ready[0] if ready else refs[0], is_ready=bool(ready), timeout=timeout)

    def _check_next(self) -> None:
        if not self.has_next():
            raise StopIteration("the pool has no more results to get")
        if not self._running:
            self._waiting.popleft()
            raise ActorDiedError(
                f"all actors of the pool are dead: push() others to go on. The last of them: {self._death}"
            )

    def _is_deserted(self) -> bool:
        """Whether work waits for actors that have all died."""
        return bool(self._waiting) and not self._running and not self._idle and self._death is not None

    def _wait_for(
        self, refs: list[ObjectRef[Any]], timeout: float | None, ignore_if_timedout: bool
    ) -> list[ObjectRef[Any]]:
        ready, _ = wait(refs, num_returns=1, timeout=timeout)
        if not ready and not ignore_if_timedout:
            raise _timed_out(timeout)
        return ready

    def _take(self, ref: ObjectRef[Any], *, is_ready: bool, timeout: float | None) -> Any:
        """The results of a piece of work; its actor gets the next one, if it lives."""
        number, actor, refs = self._running.pop(ref)
        del self._ref_of[number]
        if not is_ready:
            self.push(actor)
            raise _timed_out(timeout)
        try:
            value = get(refs)
        except ActorDiedError as error:
            self._death = error
            self._feed()
            raise
        except BaseException:
            self.push(actor)
            raise
        self.push(actor)
        return value

    def has_free(self) -> bool:
        """Whether an actor is free and no work waits.

        Returns:
            ``True`` if :meth:`submit` would start at once. An actor is free when its result was taken.
        """
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle[Any] | None:
        """Takes a free actor out of the pool.

        Returns:
            Its handle; ``None`` if there is none.
        """
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle[Any]) -> None:
        """Adds a free actor to the pool.

        Args:
            actor: its handle; waiting work is given to it at once.

        Raises:
            TypeError: it is no handle.
            ValueError: it is in the pool already.
        """
        if _checked_actor(actor) in self._idle or any(actor == work.actor for work in self._running.values()):
            raise ValueError(f"{actor!r} is in the pool already")
        self._death = None
        self._idle.append(actor)
        self._feed()

    def _feed(self) -> None:
        while self._waiting and self._idle:
            self.submit(*self._waiting.popleft())


def _checked_actor(actor: Any) -> ActorHandle[Any]:
    if isinstance(actor, ActorHandle):
        return actor
    way_out = f": start it, {actor.__name__}.remote(...)" if isinstance(actor, ActorClass) else ""
    raise TypeError(f"an actor pool takes handles of actors: got {actor!r} of type {type(actor).__name__}{way_out}")


class _Work(NamedTuple):
    number: int
    actor: ActorHandle
    refs: ObjectRef[Any] | list[ObjectRef[Any]]


def _timed_out(timeout: float | None) -> GetTimeoutError:
    return GetTimeoutError(f"no result of the actor pool within {timeout} s")
