"""Limits of calls per second that all workers of a step share.

```text
 driver: begins the step's Limiter (an actor without a CPU), ends it with the run
 worker: take(turns) ──────────► Limiter: one queue per key, first come, first served
         ◄────── tickets, when it is their turn
         began(tickets), and the call begins
```
A worker waits in the middle of a call of the limiter, so its end needs nobody's consent: a run that is stopped kills it as ever. It asks
again every other second and keeps its place; who does not has died, and nobody waits behind it. Turns are in `_turns`; this module knows
clocks, actors and functions.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._given_numbers import is_real, is_whole
from ._turns import LOST_S, Turns, most_per_second

if TYPE_CHECKING:
    import pyarrow

#: Keys with their turns.
Items = list[tuple[Any, int]]
#: Workers of a step and their driver have no other one in common.
_NAMESPACE = "aktis.data"
#: The limiter is there before any worker; one that was just started again is there soon.
_PATIENCE_S = 60.0
#: Calls that may wait at once.
_MOST_WAITING = 1_000_000
#: Whoever waits longer asks again.
_ASKS_AGAIN_S = 2.0
#: Whoever has not asked again by then is taken for dead, and is the last one if it does: much longer than a busy machine needs to ask.
_GONE_S = 3.0
#: Rows of a function over rows that are one batch.
_MOST_ROWS = 1024
#: So many keys may be idle before they are looked through.
_MANY_KEYS = 1000


class RateLimit:
    """How many calls of a function may begin per second, in all workers together.

    For ``rate_limit=`` of :meth:`Dataset.map_batches` and its kin, where a plain number is ``RateLimit(number)``. Steps that are given
    the same object share the limit.

    Args:
        per_second: how many; also less than one, as ``500 / 60`` for 500 a minute.
        burst: how many may begin at once after a pause. In any second at most ``per_second + burst - 1`` begin.
        key: what has a limit of its own: the name of a column, or a function from a row to a value. A call with rows of several keys takes
            a turn of each.
        unit: what is counted: ``"calls"`` of the function, which are rows where it gets single rows; or ``"rows"`` of batches.

    Raises:
        ValueError: a number is not above 0, or the unit is none.

    >>> RateLimit(100, burst=10, key="account")
    RateLimit(100, burst=10, key='account')
    """

    def __init__(
        self, per_second: float, *, burst: int = 1, key: str | Callable[[Any], Any] | None = None, unit: str = "calls"
    ) -> None:
        if not is_real(per_second) or not 0 < per_second < 1e6:
            raise ValueError(f"RateLimit: per_second must be a number above 0 and below a million, not {per_second!r}")
        if not is_whole(burst) or burst < 1:
            raise ValueError(f"RateLimit: burst must be a whole number of at least 1, not {burst!r}")
        if unit not in ("calls", "rows"):
            raise ValueError(f"RateLimit: unit is 'calls' or 'rows', not {unit!r}")
        if key is not None and not isinstance(key, str) and not callable(key):
            raise TypeError(f"RateLimit: key is the name of a column or a function of a row, not {key!r}")
        # Of numpy they have another way of being told.
        self.per_second = per_second if isinstance(per_second, int) else float(per_second)
        self.burst = int(burst)
        self.key = key
        self.unit = unit
        #: What its limiter is found by.
        self._id = uuid.uuid4().hex

    def __repr__(self) -> str:
        key = self.key if self.key is None or isinstance(self.key, str) else getattr(self.key, "__name__", self.key)
        told = [repr(self.per_second)]
        told += [f"burst={self.burst}"] if self.burst > 1 else []
        told += [f"key={key!r}"] if key is not None else []
        told += [f"unit={self.unit!r}"] if self.unit != "calls" else []
        return f"RateLimit({', '.join(told)})"


def limit_of(call: str, wanted: Any, *, kind: str, batch_size: int | None) -> RateLimit | None:
    """The limit that a user gave to ``call``, whose function is of a kind."""
    if wanted is None:
        return None
    try:
        limit = wanted if isinstance(wanted, RateLimit) else RateLimit(wanted)
    except ValueError as error:
        raise ValueError(f"{call.removesuffix('()')}(rate_limit=...): {error}") from None
    if limit.unit == "rows" and kind in ("batches", "column"):
        most = most_per_second(limit.per_second, limit.burst)
        if batch_size is None or batch_size > most:
            size = "as many rows as there are" if batch_size is None else f"{batch_size} rows"
            raise ValueError(
                f"{call.removesuffix('()')}(rate_limit={limit!r}): a batch of {size} is more than the {most} rows that a second may have: "
                + (f"give batch_size={most} or less" if kind == "batches" else "count calls, with unit='calls'")
            )
    return limit


def rows_at_once(limit: RateLimit) -> int:
    """Rows that are done together where a function gets one after the other: those of a second or so, which then go on."""
    return max(1, min(_MOST_ROWS, round(limit.per_second)))


# In the driver.


class _Used:
    """A limiter of this process."""

    def __init__(self) -> None:
        self.actor: Any = None
        self.runs = 0


class _Begun:
    """Limiters that runs of this process use."""

    def __init__(self) -> None:
        # The garbage collector ends runs, too, and that in the middle of anything: it must not wait for its own thread.
        self._lock = threading.RLock()
        #: By their sessions and limits.
        self._used: dict[tuple[str, str], _Used] = {}

    def use(self, limit: RateLimit) -> tuple[str, str]:
        """Begins it, if it is not there in this session."""
        import aktis

        known_as = aktis.get_runtime_context().get_job_id(), limit._id
        with self._lock:
            used = self._used.get(known_as) or _Used()
            # Counted before anything else is done, or a run that ends meanwhile could be the last one.
            used.runs += 1
            self._used[known_as] = used
            try:
                if used.actor is None:
                    used.actor = _begun(limit)
            except BaseException:
                self.leave(known_as)
                raise
        return known_as

    def leave(self, known_as: tuple[str, str]) -> None:
        """One run less; the last one ends it, with whoever waits there."""
        import aktis

        with self._lock:
            used = self._used.get(known_as)
            if used is None:
                return
            used.runs -= 1
            if used.runs:
                return
            del self._used[known_as]
            if used.actor is not None:
                # The session may have ended before, and it with it.
                with contextlib.suppress(Exception):
                    aktis.kill(used.actor)


def _begun(limit: RateLimit) -> Any:
    """A new limiter.

    Raises:
        RuntimeError: another process of the session has one.
    """
    import aktis

    remote = aktis.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=_MOST_WAITING)
    named = remote(Limiter).options(name=_name(limit), namespace=_NAMESPACE)
    try:
        return named.remote(limit.per_second, limit.burst)
    except aktis.exceptions.ActorAlreadyExistsError:
        raise RuntimeError(
            f"rate_limit={limit!r} is in use by a dataset that another process of this session runs, and limits are kept by the process "
            "that runs the dataset: make the RateLimit, or the dataset with its rate_limit=, in each process that runs one, with its part "
            "of the calls; or run the datasets one after the other"
        ) from None


_BEGUN = _Begun()


class Held:
    """The limiters of one run."""

    def __init__(self, limits: list[RateLimit]) -> None:
        self._used: list[tuple[str, str]] = []
        try:
            for limit in {limit._id: limit for limit in limits}.values():
                self._used.append(_BEGUN.use(limit))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """The run is over. Once is enough."""
        used, self._used = self._used, []
        for known_as in used:
            _BEGUN.leave(known_as)


def _name(limit: RateLimit) -> str:
    return f"rate_limit.{limit._id}"


# The actor.


class _Waiting:
    """A call that waits for its turns."""

    def __init__(self, ask: str, items: Items) -> None:
        #: What it is known by.
        self.ask = ask
        self.items = items
        #: Where they go; None: it has asked, and not asked again.
        self.tickets: asyncio.Future[list[int]] | None = None
        self.left_at = 0.0

    def is_gone(self, now: float) -> bool:
        """Whether nobody will ask again."""
        return self.tickets is None and now >= self.left_at + _GONE_S


class Limiter:
    """Gives turns to the workers of all steps that share a limit."""

    def __init__(self, per_second: float, burst: int) -> None:
        import aktis

        self._per_second, self._burst = per_second, burst
        self._is_fresh = not aktis.get_runtime_context().was_current_actor_reconstructed
        self._born_at = time.monotonic()
        self._turns: dict[Any, Turns] = {}
        self._queues: dict[Any, collections.deque[_Waiting]] = {}
        #: Those that wait, by what they are known by.
        self._waiting: dict[str, _Waiting] = {}
        #: Keys whose first call waits for a moment.
        self._timers: dict[Any, asyncio.TimerHandle] = {}

    async def take(self, ask: str, items: Items) -> tuple[list[int] | None, float]:
        """Waits until all these turns can be had at once: a ticket for each, and how long that took. None: for long, and whoever still
        wants them asks again under the same name, and has kept its place."""
        self._forget_idle()
        asked_at, keys = time.monotonic(), [key for key, _ in items]
        waiting = self._waiting.get(ask)
        if waiting is None:
            waiting = self._waiting[ask] = _Waiting(ask, items)
            for key in keys:
                self._queues.setdefault(key, collections.deque()).append(waiting)
        tickets = waiting.tickets = asyncio.get_running_loop().create_future()
        self._look_at(keys.copy())
        try:
            await asyncio.wait([tickets], timeout=_ASKS_AGAIN_S)
        finally:
            if not tickets.done() and waiting.tickets is tickets:
                waiting.tickets, waiting.left_at = None, time.monotonic()
                self._look_at(keys.copy())
        return (tickets.result(), time.monotonic() - asked_at) if tickets.done() else (None, 0.0)

    async def began(self, tickets: list[tuple[Any, int]]) -> None:
        """Calls that had these tickets have begun."""
        now = time.monotonic()
        for key, ticket in tickets:
            if key in self._turns:
                self._turns[key].began(ticket, now)
        self._look_at([key for key, _ in tickets])

    def _look_at(self, keys: list[Any]) -> None:
        """Gives turns to the first ones that wait for these keys, as far as they can be given now."""
        while keys:
            key, now = keys.pop(), time.monotonic()
            first = self._first_of(key, now, keys)
            if first is None or any(self._first_of(other, now, keys) is not first for other, _ in first.items):
                # Whoever is before it there looks again.
                continue
            # Who has a timer has been waiting.
            waits = [
                self._turns_of(one).wait_s(count, now, has_waited=key in self._timers) for one, count in first.items
            ]
            if (timer := self._timers.pop(key, None)) is not None:
                timer.cancel()
            if first.tickets is None:
                waits.append(first.left_at + _GONE_S - now)
            if first.tickets is None or max(waits) > 0:
                loop = asyncio.get_running_loop()
                self._timers[key] = loop.call_later(max(waits), self._look_at, [key])
                continue
            tickets = [self._turns_of(one).take(count, now) for one, count in first.items]
            for one, _ in first.items:
                self._queues[one].popleft()
                keys.append(one)
            del self._waiting[first.ask]
            first.tickets.set_result(tickets)

    def _first_of(self, key: Any, now: float, keys: list[Any]) -> _Waiting | None:
        """Who is first in the queue of a key. Whoever is gone leaves it, and the queues that it was in are looked at."""
        queue = self._queues.get(key)
        while queue and queue[0].is_gone(now):
            gone = queue.popleft()
            self._waiting.pop(gone.ask, None)
            keys.extend(other for other, _ in gone.items)
        if queue:
            return queue[0]
        self._queues.pop(key, None)
        return None

    def _turns_of(self, key: Any) -> Turns:
        turns = self._turns.get(key)
        if turns is None:
            # One that was started again does not know what was given before.
            is_fresh = self._is_fresh or time.monotonic() > self._born_at + 2 * LOST_S
            turns = self._turns[key] = Turns(self._per_second, self._burst, time.monotonic(), is_fresh=is_fresh)
        return turns

    def _forget_idle(self) -> None:
        if len(self._turns) > _MANY_KEYS and len(self._turns) > 2 * len(self._queues):
            now = time.monotonic()
            idle = [key for key, turns in self._turns.items() if key not in self._queues and turns.is_idle(now)]
            for key in idle:
                del self._turns[key]


# In a worker.

#: The turns that the call which this thread or coroutine makes has taken.
_LAST: contextvars.ContextVar[Items] = contextvars.ContextVar("turns")


class TurnTaker:
    """Takes turns for the calls of a function, and counts how long they wait."""

    def __init__(self, limit: RateLimit, function: str) -> None:
        self._limit = limit
        self._function = function
        self._most = most_per_second(limit.per_second, limit.burst)
        self._actor: Any = None
        self._lock = threading.Lock()
        self._waited_s = 0.0

    def of_row(self, row: Any) -> Items:
        """The turns that a call with a row takes."""
        key = self._limit.key
        if key is None:
            return [(None, 1)]
        if isinstance(key, str):
            if key not in row:
                raise self._no_column(list(row))
            return [(_plain(row[key]), 1)]
        return [(_plain(key(row)), 1)]

    def of_batch(self, batch: pyarrow.RecordBatch) -> Items:
        """The turns that a call with a batch takes."""
        key, counts_rows = self._limit.key, self._limit.unit == "rows"
        if key is None:
            return [(None, batch.num_rows if counts_rows else 1)]
        if isinstance(key, str):
            if key not in batch.schema.names:
                raise self._no_column(batch.schema.names)
            values = batch.column(key).to_pylist()
        else:
            from . import _batches

            values = [key(row) for row in _batches.rows_of(batch)]
        counts = collections.Counter(map(_plain, values))
        return [(value, count if counts_rows else 1) for value, count in counts.items()]

    def _no_column(self, names: list[str]) -> ValueError:
        return ValueError(
            f"{self._function}: the key of its rate_limit is the column {self._limit.key!r}, which the function does not get; it gets {names}"
        )

    def wait(self, items: Items) -> None:
        """Returns when it is the turn of a call, which then begins at once."""
        import aktis

        self._check(items)
        _LAST.set(items)
        with self._waiting():
            limiter, ask = self._limiter(), uuid.uuid4().hex
            tickets: list[int] | None = None
            while tickets is None:
                tickets = _in_time(time.monotonic(), *aktis.get(limiter.take.remote(ask, items)))
        limiter.began.remote(_told(items, tickets))

    async def wait_async(self, items: Items) -> None:
        """The same, for a coroutine."""
        self._check(items)
        _LAST.set(items)
        with self._waiting():
            limiter = self._actor or await asyncio.to_thread(self._limiter)
            ask = uuid.uuid4().hex
            tickets: list[int] | None = None
            while tickets is None:
                tickets = _in_time(time.monotonic(), *(await limiter.take.remote(ask, items)))
        limiter.began.remote(_told(items, tickets))

    def again(self) -> None:
        """The same for a call that is made again: it takes the turns that it took before."""
        self.wait(_LAST.get())

    async def again_async(self) -> None:
        """The same, for a coroutine."""
        await self.wait_async(_LAST.get())

    def take_waited_s(self) -> float:
        """How long calls have waited since this was last asked, all added up."""
        with self._lock:
            waited, self._waited_s = self._waited_s, 0.0
        return waited

    def _check(self, items: Items) -> None:
        for key, count in items:
            if count > self._most:
                of = "" if self._limit.key is None else f" of {key!r}"
                raise ValueError(
                    f"{self._function}: a batch has {count} rows{of}, and its rate_limit lets {self._most} begin in a second: give a "
                    f"batch_size of {self._most} or less"
                )

    def _limiter(self) -> Any:
        """The actor, which the driver has begun."""
        import aktis

        deadline = time.monotonic() + _PATIENCE_S
        while self._actor is None:
            try:
                self._actor = aktis.get_actor(_name(self._limit), _NAMESPACE)
            except ValueError:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{self._function}: what keeps its rate_limit is not there: the run was ended, or its driver has died"
                    ) from None
                time.sleep(0.05)
        return self._actor

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        from aktis import _aktis

        began = time.monotonic()
        _aktis.data.begin_wait()
        try:
            yield
        finally:
            _aktis.data.end_wait()
            with self._lock:
                self._waited_s += time.monotonic() - began


def _told(items: Items, tickets: list[int]) -> list[tuple[Any, int]]:
    return [(key, ticket) for (key, _), ticket in zip(items, tickets, strict=True)]


def _in_time(asked_at: float, tickets: list[int] | None, held_s: float) -> list[int] | None:
    """Turns that were on their way for so short a time that they are certainly still counted (TURN-1)."""
    return tickets if time.monotonic() - asked_at - held_s < LOST_S / 2 else None


def _plain(value: Any) -> Any:
    """A key as a value that is the same in every process.

    >>> _plain("a"), _plain([1, 2])
    ('a', '[1, 2]')
    """
    value = value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value
    return value if value is None or isinstance(value, (str, int, float, bool, bytes)) else repr(value)
