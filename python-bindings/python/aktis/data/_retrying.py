"""Calls that are made again: only when that was asked for, by the type of the exception.

>>> policy("map()", retry_exceptions=[ConnectionError]).most
3
>>> policy("map()", max_retries=5)
Traceback (most recent call last):
...
ValueError: map(max_retries=5) says how often, and retry_exceptions= for which exceptions: give retry_exceptions=[ConnectionError], say
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._failing import RowError

if TYPE_CHECKING:
    from ._rate_limits import TurnTaker

#: The options of a step that say it.
OPTIONS = ("retry_exceptions", "max_retries")
#: As in Ray.
MOST_RETRIES = 3
#: Seconds before the first retry, at most; each time twice as long.
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
#: A function that is called again and again says so this often.
TELL_EVERY_S = 5.0


class Policy(NamedTuple):
    """Which failures of a call are tried again."""

    errors: tuple[type[BaseException], ...]
    most: int

    def pause(self, error: BaseException, tries: int) -> float | None:
        """Seconds until the next try, after so many; None: it would not help, or there were enough."""
        if tries > self.most or isinstance(error, RowError) or is_out_of_memory(error):
            return None
        return pause_after(tries, FIRST_PAUSE_S)


def pause_after(tries: int, first_s: float) -> float:
    """Seconds until the next of several tries, of which so many have failed; ``first_s``: those after the first one, at most."""
    longest = min(LONGEST_PAUSE_S, first_s * 2 ** (tries - 1))
    # So that workers that failed together do not come back together.
    return random.uniform(longest / 2, longest)


def policy(call: str, *, retry_exceptions: Any = None, max_retries: Any = None) -> Policy | None:
    """What a step was told; None: a call that fails has failed."""
    name = call.removesuffix("()")
    if max_retries is not None and (
        not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < -1
    ):
        raise ValueError(f"{name}(max_retries=...) must be a whole number of at least 0, not {max_retries!r}")
    if retry_exceptions is None or retry_exceptions is False:
        # Ray's values for workers that die: these are replaced in any case.
        if max_retries not in (None, -1, 0):
            raise ValueError(
                f"{name}(max_retries={max_retries}) says how often, and retry_exceptions= for which exceptions: "
                "give retry_exceptions=[ConnectionError], say"
            )
        return None
    if max_retries == -1:
        raise ValueError(
            f"{name}(retry_exceptions=..., max_retries=-1): a job whose function fails for ever would never end; give a number"
        )
    errors = (Exception,) if retry_exceptions is True else _types(name, retry_exceptions)
    most = MOST_RETRIES if max_retries is None else max_retries
    return Policy(errors, most) if errors and most else None


def _types(name: str, given: Any) -> tuple[type[BaseException], ...]:
    types = tuple(given) if isinstance(given, (list, tuple, set, frozenset)) else (given,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name}(retry_exceptions=...) is True or a list of classes of exceptions, not {kind!r}")
    return types


def taken(call: str, options: dict[str, Any]) -> Policy | None:
    """The policy of options that are taken out of others."""
    return policy(call, **{name: options.pop(name, None) for name in OPTIONS})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a call found no memory: the same call would not find it either.

    >>> is_out_of_memory(RuntimeError("CUDA error: out of memory")), is_out_of_memory(RuntimeError("busy"))
    (True, False)
    """
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """A pause is none of a call's time."""
    from aktis import _aktis

    _aktis.data.begin_wait()
    try:
        yield
    finally:
        _aktis.data.end_wait()


class Retrying:
    """A function that is called again where that was asked for. What it yields is handed on when it has ended well."""

    def __init__(
        self, function: Callable[[Any], Any], policy: Policy, name: str, turns: TurnTaker | None = None
    ) -> None:
        self._function = function
        self._policy = policy
        self._name = name
        #: A call that is made again waits for its turn again.
        self._turns = turns
        self._told_at = -TELL_EVERY_S
        self._untold = 0

    def __call__(self, value: Any) -> Any:
        tries = 0
        while True:
            try:
                result = self._function(fresh(value))
                if isinstance(result, Iterator):
                    return iter(list(result))
            except self._policy.errors as error:
                tries += 1
                if (pause := self._pause(error, tries)) is None:
                    raise
                with _waiting():
                    time.sleep(pause)
                if self._turns is not None:
                    self._turns.again()
                continue
            if inspect.isawaitable(result):
                return self._awaited(result, value)
            return self._yielded(result, value) if hasattr(result, "__aiter__") else result

    async def _awaited(self, result: Awaitable[Any], value: Any) -> Any:
        tries = 0
        while True:
            try:
                return await result
            except self._policy.errors as error:
                tries += 1
                if (pause := self._pause(error, tries)) is None:
                    raise
                await self._rest(pause)
                result = self._function(fresh(value))

    async def _yielded(self, result: AsyncIterator[Any], value: Any) -> AsyncIterator[Any]:
        tries = 0
        while True:
            try:
                outputs = [output async for output in result]
                break
            except self._policy.errors as error:
                tries += 1
                if (pause := self._pause(error, tries)) is None:
                    raise
                await self._rest(pause)
                result = self._function(fresh(value))
        for output in outputs:
            yield output

    async def _rest(self, pause: float) -> None:
        with _waiting():
            await asyncio.sleep(pause)
        if self._turns is not None:
            await self._turns.again_async()

    def _pause(self, error: BaseException, tries: int) -> float | None:
        """Seconds until the next try, which is told; None: there is none."""
        pause = self._policy.pause(error, tries)
        if pause is None:
            return None
        self._untold += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            more = f" ({self._untold} times since this was last said)" if self._untold > 1 else ""
            said = f"{type(error).__name__}: {error}"
            print(f"{self._name}: {said:.200}; called again in {pause:.1f} s, retry {tries} of {self._policy.most}{more}", file=sys.stderr)  # fmt: skip
            self._told_at, self._untold = now, 0
        return pause


def fresh(value: Any) -> Any:
    """A row or batch that a call may change without the next one seeing it.

    >>> row = {"tags": ["a"]}
    >>> fresh(row)["tags"].append("b")
    >>> row
    {'tags': ['a']}
    """
    if isinstance(value, Mapping):
        return {name: _fresh_column(column) for name, column in value.items()}
    kind = type(value).__module__.partition(".")[0]
    return value.copy() if kind == "pandas" else value


def _fresh_column(column: Any) -> Any:
    flags = getattr(column, "flags", None)
    if flags is not None and hasattr(column, "dtype"):
        return column if not flags.writeable and not column.dtype.hasobject else copy.deepcopy(column)
    return copy.deepcopy(column) if isinstance(column, (list, dict, set)) else column
