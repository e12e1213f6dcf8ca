"""Batches as Arrow, numpy, pandas and rows.

Conversions share memory where the types allow it. What becomes of which type is told in docs/data-types.md; the rules are in
`_to_python` and `_from_python`, which are loaded when the first batch is at hand.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aktis._process import shared_modules

from . import _wrong_outputs

#: What the names of columns begin with that are made on the way.
MADE_ON_THE_WAY = "aktis\ue000"
BATCH_FORMATS = ("default", "numpy", "pandas", "pyarrow", None)


def check_format(batch_format: Any) -> str:
    """The format to use for what the user wrote."""
    if batch_format not in BATCH_FORMATS:
        raise ValueError(f"batch_format must be 'default', 'numpy', 'pandas' or 'pyarrow', not {batch_format!r}")
    if batch_format == "pandas":
        shared_modules.ask("pandas")
    if batch_format is None:
        return "pyarrow"
    return "numpy" if batch_format == "default" else batch_format


def format_of_groups(batch_format: Any) -> str:
    """The same for the groups of ``map_groups``, which Ray gives as data frames if nobody says otherwise."""
    if batch_format == "default" and importlib.util.find_spec("pandas") is None:
        raise ImportError(
            "map_groups(): groups are data frames by default, and pandas is not installed: batch_format='numpy' gives a dict of arrays"
        )
    return check_format("pandas" if batch_format == "default" else batch_format)


def from_arrow(batch: Any, batch_format: str, *, writable: bool = False) -> Any:
    """A record batch in the wanted format."""
    import pyarrow

    from . import _to_python

    if batch_format == "pyarrow":
        return batch if isinstance(batch, pyarrow.Table) else pyarrow.Table.from_batches([batch])
    if batch_format == "pandas":
        return _to_python.to_pandas(batch)
    columns = _each_column(batch, _to_python.to_numpy)
    if writable:
        columns = {name: column if column.flags.writeable else column.copy() for name, column in columns.items()}
    return columns


def to_arrow(output: Any, function: str, given: Any = None, given_format: str | None = None) -> Any:
    """What a function returned, as a record batch; ``given`` is the record batch that it got, in ``given_format``."""
    import pyarrow

    from . import _own_memory

    if isinstance(output, (pyarrow.RecordBatch, pyarrow.Table)):
        _wrong_outputs.check_names(output.schema.names, function)
        return _one_batch(output) if isinstance(output, pyarrow.Table) else output
    if isinstance(output, Mapping):
        return columns_to_arrow(_own_memory.owned(output), function, given, given_format=given_format)
    if type(output).__module__.partition(".")[0] == "pandas" and hasattr(output, "columns"):
        _wrong_outputs.check_names(list(map(str, output.columns)), function)
        columns = {name if isinstance(name, str) else str(name): output[name] for name in output.columns}
        return columns_to_arrow(
            _own_memory.owned(columns), function, given, rows=len(output), given_format=given_format
        )
    if is_frame(output):
        return to_arrow(table_of(output), function)
    raise _wrong_outputs.no_batch(output, function)


def is_frame(value: Any) -> bool:
    """Whether it is a table of another library that Arrow's interface of C gives: a frame of polars, a relation or reader of DuckDB."""
    is_pandas = type(value).__module__.partition(".")[0] == "pandas"
    is_table = hasattr(value, "columns") or hasattr(value, "read_all")
    return hasattr(value, "__arrow_c_stream__") and is_table and not is_pandas


def table_of(frame: Any) -> Any:
    """The table of pyarrow that a frame of another library is."""
    import pyarrow

    # polars has views of texts by default, which fewer programs read.
    is_polars = type(frame).__module__.partition(".")[0] == "polars"
    return frame.to_arrow() if is_polars else pyarrow.table(frame)


def _one_batch(table: Any) -> Any:
    """A table as one record batch."""
    import pyarrow

    combined = table.combine_chunks()
    batches = combined.to_batches()
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pyarrow.RecordBatch.from_pylist([], schema=table.schema)
    return pyarrow.concat_batches(batches)


def columns_to_arrow(
    columns: Mapping[str, Any],
    function: str,
    given: Any = None,
    *,
    rows: int | None = None,
    given_format: str | None = None,
) -> Any:
    """A dict of columns as a record batch. ``given`` and ``given_format``: as in :func:`to_arrow`."""
    import pyarrow

    from . import _from_python

    arrays = {}
    for name, values in columns.items():
        if not isinstance(name, str):
            # One type for all wrong outputs, as in Ray.
            raise ValueError(f"{function} returned a column named {name!r}, which is no string")  # noqa: TRY004
        try:
            column, metadata = _given_column(given, name)
            arrays[name] = _from_python.to_column(values, column, metadata, _seen(column, given_format))
        except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
            reason = _wrong_outputs.no_column(values) or _wrong_outputs.no_value(error) or error
            raise ValueError(f"{function} returned the column {name!r}, which cannot be stored: {reason}") from None
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{function} returned columns of different lengths: {lengths}")
    if not arrays and rows:
        # A batch without columns has rows all the same.
        return pyarrow.RecordBatch.from_struct_array(pyarrow.array([{}] * rows, pyarrow.struct([])))
    return pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _given_column(given: Any, name: str) -> tuple[Any, Any]:
    """The column of this name that the function got, and its field's metadata."""
    if given is None:
        return None, None
    index = given.schema.get_field_index(name)
    return (None, None) if index < 0 else (given.column(index), given.schema.field(index).metadata)


def _seen(column: Any, given_format: str | None) -> Any:
    """What makes of a column what functions get to see of it, where that may lose something: see ``_untouched``.

    Values of rows lose nothing, but for lists of a fixed size, which are arrays there and have NaN for null.
    """
    from . import _to_python

    if given_format == "rows":
        return _to_python.to_values if column is not None and _to_python.is_array_list(column.type) else None
    return {"numpy": _to_python.to_numpy, "pandas": _to_python.to_series}.get(given_format or "")


def _each_column(batch: Any, convert: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """The columns by name, converted."""
    from . import _to_python

    converted = {}
    for index, field in enumerate(batch.schema):
        with _to_python.naming(field):
            converted[field.name] = convert(batch.column(index), field.metadata)
    return converted


#: Whoever waits for a first row waits for those that are made with it. Later it is faster to make many at once.
_FIRST_ROWS, _MOST_ROWS = 32, 4096


def pieces(batches: Iterable[Any]) -> Iterator[Any]:
    """The rows of record batches or tables in pieces that begin small and grow.

    >>> import pyarrow
    >>> [piece.num_rows for piece in pieces([pyarrow.record_batch({"id": range(100)}), pyarrow.record_batch({"id": range(9)})])]
    [32, 64, 4, 9]
    """
    rows = _FIRST_ROWS
    for batch in batches:
        first = 0
        while first < batch.num_rows:
            yield batch.slice(first, rows)
            first += rows
            rows = min(_MOST_ROWS, 2 * rows)


def rows_of(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch or table as dicts of Python values; rows of tensors are numpy arrays."""
    from . import _to_python

    columns = _each_column(batch, _to_python.to_values)
    if not columns:
        return [{} for _ in range(batch.num_rows)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def rows_to_arrow(
    rows: Sequence[Mapping[str, Any]],
    function: str,
    given: Any = None,
    *,
    wrong: Callable[[Any, str], ValueError] = _wrong_outputs.no_row,
) -> Any:
    """Dicts of values as a record batch; a key that a row lacks is null there.

    Args:
        given: as in :func:`to_arrow`.
        wrong: the error for something else among the rows.
    """
    names: dict[str, None] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise wrong(row, function)
        names.update(dict.fromkeys(row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return columns_to_arrow(columns, function, given, rows=len(rows), given_format="rows")
