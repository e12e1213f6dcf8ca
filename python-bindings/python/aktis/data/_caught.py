"""Rows that a function has failed for, found in the call itself: nobody has to look for them with smaller batches.

>>> [row[:3] for row in of_batch(RowError("bad", rows=[2]), 3, "MapBatches(f)")]
[(2, 'RowError', 'bad')]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from . import _wrong_outputs
from ._failing import RowError


class Failed(NamedTuple):
    """A row that failed, as the native worker takes it."""

    position: int
    error: str
    message: str
    traceback: str


class Caught:
    """In the place of what a function would have returned for a row."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def of_batch(error: RowError, rows: int, name: str) -> list[Failed]:
    """The rows of a batch that an error names; none, if it names none."""
    named = error.rows or {}
    for position in named:
        if not -rows <= position < rows:
            raise IndexError(f"RowError(rows=...) names row {position} of a batch of {rows} rows") from error
    class_name, _, traceback = _described(error, name)
    return [Failed(position % rows, class_name, message, traceback) for position, message in sorted(named.items())]


def among(results: list[Any], name: str, wrong: Callable[[Any, str], Exception | None]) -> dict[int, Exception]:
    """Errors in the place of results, and those of results that are none, by their positions."""
    found: dict[int, Exception] = {}
    for position, result in enumerate(results):
        if isinstance(result, Caught):
            found[position] = result.error
        elif isinstance(result, RowError):
            found[position] = result
        elif (error := wrong(result, name)) is not None:
            found[position] = error
    return found


def raise_row_error(results: list[Any]) -> None:
    """Raises the first error that a function has returned instead of raising it."""
    for result in results:
        if isinstance(result, RowError):
            raise result


def not_returned(result: Any) -> Any:
    """What a call gave as a whole; raises an error that names rows: what is to become of the others, it does not say."""
    if isinstance(result, RowError):
        raise result
    return result


async def not_returned_later(result: Any) -> Any:
    """The same of a coroutine."""
    return not_returned(await result)


def told(caught: Mapping[int, Exception], name: str) -> list[Failed]:
    """What is told of these rows."""
    return [Failed(position, *_described(error, name)) for position, error in caught.items()]


def indices(positions: Iterable[int]) -> Any:
    """Positions as Arrow takes them."""
    import pyarrow

    return pyarrow.array(positions, pyarrow.int64())


def wrong_row(result: Any, name: str) -> Exception | None:
    """Why the result of a row is no row."""
    return None if isinstance(result, Mapping) else _wrong_outputs.no_row(result, name)


def wrong_rows(result: Any, name: str) -> Exception | None:
    """Why the result of a row is not any number of rows."""
    if isinstance(result, (Mapping, str, bytes)) or not hasattr(result, "__iter__"):
        return _wrong_outputs.no_rows(result, name)
    item = next((item for item in result if not isinstance(item, Mapping)), None) if isinstance(result, list) else None
    if isinstance(item, RowError):
        return item
    return None if item is None else _wrong_outputs.no_item(item, name)


def wrong_truth(result: Any, name: str) -> Exception | None:
    """Why the result of a row is neither true nor false."""
    try:
        bool(result)
    except Exception as error:  # noqa: BLE001 - of whatever type: it is told with the row
        return error
    return None


def _described(error: Exception, name: str) -> tuple[str, str, str]:
    """The class of an error, what it says, and where it was raised."""
    from aktis._process.worker import describe_exception
    from aktis._values.carried import text_of

    _, _, traceback, _ = describe_exception(error, name, None)
    return type(error).__qualname__, text_of(error), traceback
