"""Batches of one dataset that differ, put together: the rules are those of the native module, see docs/data-types.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

_ADVICE = "return columns of one type from every call, for instance by making them with numpy or pyarrow"


def _native() -> Any:
    from aktis import _aktis

    return _aktis.data


def together(one: Any, other: Any, places: tuple[str, str]) -> Any:
    """The columns of both schemas, each of a type that both fit into; a ValueError names a column that has none."""
    return _native().unify_columns(one, other, places)


def unified(schemas: list[Any], what: str, parts: list[str]) -> Any:
    """The columns of all schemas; ``parts`` says for messages where each comes from."""
    schema = schemas[0]
    for index, other in enumerate(schemas[1:], start=1):
        if other is schemas[index - 1] or other.equals(schema, check_metadata=True):
            continue
        try:
            schema = _native().unify_columns(schema, other, (parts[0], parts[index]))
        except ValueError as error:
            raise ValueError(f"{what}: {_between(schemas, parts, index) or error}; {_ADVICE}") from None
    return schema


def _between(schemas: list[Any], parts: list[str], index: int) -> str | None:
    """The first of the parts before that one does not go with, named."""
    for before in range(index):
        try:
            _native().unify_columns(schemas[before], schemas[index], (parts[before], parts[index]))
        except ValueError as error:
            return str(error)
    return None


def conformed(batch: pyarrow.RecordBatch, schema: Any, what: str, places: tuple[str, str]) -> pyarrow.RecordBatch:
    """The batch with the columns of ``schema``."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    try:
        return _native().conform_columns(batch, schema, places)
    except ValueError as error:
        raise ValueError(f"{what}: {error}; {_ADVICE}") from None


def table_of(batches: list[pyarrow.RecordBatch], what: str) -> pyarrow.Table:
    """All batches as one table, of the columns of all of them."""
    import pyarrow

    parts = _row_ranges(batches)
    schema = unified([batch.schema for batch in batches], what, parts)
    places = zip(batches, parts, strict=True)
    return pyarrow.Table.from_batches(
        [conformed(batch, schema, what, ("as a whole", part)) for batch, part in places], schema=schema
    )


def _row_ranges(batches: list[Any]) -> list[str]:
    """For messages."""
    ranges, first = [], 0
    for batch in batches:
        ranges.append(f"in the rows {first} to {first + batch.num_rows - 1}")
        first += batch.num_rows
    return ranges


def tables(batches: Iterator[Any], batch_size: int | None, drop_last: bool, what: str) -> Iterator[pyarrow.Table]:
    """Tables of exactly ``batch_size`` rows, the last one of what is left.

    Once rows were handed out, their types stay: what comes later and does not fit is an error. Columns and fields may
    still come, and what was null gets a type.
    """
    import pyarrow

    schema: Any = None
    is_handed = False
    held: list[Any] = []
    rows = seen = 0
    for batch in batches:
        places = (f"in the rows before {seen}", f"in the rows {seen} to {seen + batch.num_rows - 1}")
        if schema is None:
            schema = batch.schema
        elif not batch.schema.equals(schema, check_metadata=True):
            schema = _grown(schema, batch.schema, what, places, is_handed=is_handed)
            held = [conformed(part, schema, what, (places[1], places[0])) for part in held]
        held.append(conformed(batch, schema, what, places))
        rows += batch.num_rows
        seen += batch.num_rows
        if batch_size is not None and rows < batch_size:
            continue
        table = pyarrow.Table.from_batches(held, schema=schema)
        whole = rows - rows % (batch_size or rows or 1)
        for first in range(0, whole, batch_size or rows or 1):
            is_handed = True
            yield table.slice(first, batch_size or rows)
        held = table.slice(whole).to_batches()
        rows -= whole
    if rows and not drop_last:
        yield pyarrow.Table.from_batches(held, schema=schema)


def _grown(schema: Any, other: Any, what: str, places: tuple[str, str], *, is_handed: bool) -> Any:
    grow = _native().settle_columns if is_handed else _native().unify_columns
    try:
        return grow(schema, other, places)
    except ValueError as error:
        raise ValueError(f"{what}: {error}; {_ADVICE}") from None
