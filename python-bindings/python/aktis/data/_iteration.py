"""Results that are iterated over: again and again, and ahead of who reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ._overlapping import Outputs

T = TypeVar("T")


class Repeatable(Generic[T]):
    """What can be iterated over more than once: each time the dataset runs anew.

    >>> numbers = Repeatable(lambda: iter([1, 2]))
    >>> list(numbers), list(numbers), next(numbers)
    ([1, 2], [1, 2], 1)
    """

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin
        self._begun: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        return self._begin()

    def __next__(self) -> T:
        """The next item of one run, for who asks without iterating."""
        if self._begun is None:
            self._begun = self._begin()
        return next(self._begun)

    def close(self) -> None:
        """Ends the run that :meth:`__next__` has begun."""
        if self._begun is not None:
            self._begun.close()  # type: ignore[attr-defined]
            self._begun = None


def ahead(items: Iterator[Any], count: int, cancel: Callable[[], None]) -> Iterator[Any]:
    """The items, of which up to ``count`` are made on a thread before they are asked for.

    Args:
        items: What makes them.
        count: Below 2, no thread is needed: the executor makes rows ahead by itself.
        cancel: Called when nobody wants the rest, so that ``items`` ends.

    Example:
        >>> list(ahead(iter(range(5)), 2, lambda: None))
        [0, 1, 2, 3, 4]
    """
    if count < 2:
        yield from items
        return
    outputs = Outputs(count)
    thread = threading.Thread(target=_make, args=(items, outputs), name="aktis-ahead", daemon=True)
    thread.start()
    try:
        yield from outputs
    finally:
        outputs.forget()
        cancel()
        thread.join()


def _make(items: Iterator[Any], outputs: Outputs) -> None:
    try:
        for item in items:
            if not outputs.put(item):
                break
    except BaseException as error:  # noqa: BLE001 - it is raised where the items are read
        outputs.end(error)
    else:
        outputs.end()
