"""Rows that are all brought into one process: how many bytes that may be, and a word about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from aktis._session.logging_level import logger

from ._context import DataContext

_LOGGER: logging.Logger = logger("aktis.data")
_WAYS_OUT = "iter_batches() takes them piece by piece, write_parquet() writes them, limit() takes some"


def watched(batches: Iterator[Any], call: str, known_bytes: int | None) -> Iterator[Any]:
    """The record batches, all of which `call` keeps; ``known_bytes``: how much they are, if that is known before."""
    context = DataContext.get_current()
    many, most = context.warn_on_driver_memory_usage_bytes, context.max_driver_bytes
    seen = 0
    is_told = False
    if known_bytes is not None:
        _refuse(call, known_bytes, most)
        is_told = _tell(call, known_bytes, many, is_over=False)
    for batch in batches:
        seen += batch.nbytes
        _refuse(call, seen, most)
        is_told = is_told or _tell(call, seen, many, is_over=True)
        yield batch


def _refuse(call: str, size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise ValueError(
            f"{call}() would bring more than {in_words(most)} into this process, which is what DataContext.max_driver_bytes allows: "
            f"{_WAYS_OUT}"
        )


def _tell(call: str, size: int, many: int | None, *, is_over: bool) -> bool:
    if many is None or size <= many:
        return False
    what = "has brought" if is_over else "brings"
    more = " so far" if is_over else ""
    _LOGGER.warning("%s() %s %s into this process%s: %s.", call, what, in_words(size), more, _WAYS_OUT)
    return True


def in_words(size: int) -> str:
    """Bytes as people read them.

    >>> in_words(3 << 29), in_words(1000)
    ('1.5 GiB', '1000 bytes')
    """
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
