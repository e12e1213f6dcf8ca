"""Batches as Arrow, numpy, pandas and rows.

Conversions share memory where the types allow it. Fixed-size binary and fixed-size list columns are arrays of two or more
dimensions in numpy; strings and bytes are arrays of objects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

BATCH_FORMATS = ("default", "numpy", "pandas", "pyarrow", None)


def check_format(batch_format: Any) -> str:
    """The format to use for what the user wrote."""
    if batch_format not in BATCH_FORMATS:
        raise ValueError(f"batch_format must be 'default', 'numpy', 'pandas' or 'pyarrow', not {batch_format!r}")
    if batch_format is None:
        return "pyarrow"
    return "numpy" if batch_format == "default" else batch_format


def from_arrow(batch: Any, batch_format: str, *, writable: bool = False) -> Any:
    """A record batch in the wanted format."""
    import pyarrow

    if batch_format == "pyarrow":
        return batch if isinstance(batch, pyarrow.Table) else pyarrow.Table.from_batches([batch])
    if batch_format == "pandas":
        return batch.to_pandas()
    columns = {name: column_to_numpy(batch.column(i)) for i, name in enumerate(batch.schema.names)}
    if writable:
        columns = {name: column if column.flags.writeable else column.copy() for name, column in columns.items()}
    return columns


def column_to_numpy(column: Any) -> Any:
    """An Arrow column as numpy: a view where possible."""
    import numpy
    import pyarrow
    from pyarrow import types

    if isinstance(column, pyarrow.ChunkedArray):
        chunks = [column_to_numpy(chunk) for chunk in column.chunks]
        if not chunks:
            return column_to_numpy(pyarrow.array([], type=column.type))
        return chunks[0] if len(chunks) == 1 else numpy.concatenate(chunks)
    kind = column.type
    if column.null_count == 0:
        if types.is_fixed_size_list(kind) and _is_numeric(kind.value_type):
            return column_to_numpy(column.flatten()).reshape(
                len(column), kind.list_size, *_inner_shape(kind.value_type)
            )
        if types.is_fixed_size_binary(kind):
            flat = numpy.frombuffer(column.buffers()[1], dtype=numpy.uint8) if len(column) else numpy.empty(0, "uint8")
            start = column.offset * kind.byte_width
            return flat[start : start + len(column) * kind.byte_width].reshape(len(column), kind.byte_width)
        if types.is_integer(kind) or types.is_floating(kind):
            return column.to_numpy(zero_copy_only=True)
    if types.is_dictionary(kind):
        return column_to_numpy(column.dictionary_decode())
    if types.is_string_view(kind):
        column = column.cast(pyarrow.large_string())
    elif types.is_binary_view(kind):
        column = column.cast(pyarrow.large_binary())
    return column.to_numpy(zero_copy_only=False)


def _is_numeric(kind: Any) -> bool:
    from pyarrow import types

    if types.is_fixed_size_list(kind):
        return _is_numeric(kind.value_type)
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _inner_shape(kind: Any) -> tuple[int, ...]:
    from pyarrow import types

    return (kind.list_size, *_inner_shape(kind.value_type)) if types.is_fixed_size_list(kind) else ()


def to_arrow(output: Any, function: str) -> Any:
    """What a function returned, as a record batch."""
    import pyarrow

    if isinstance(output, pyarrow.RecordBatch):
        return output
    if isinstance(output, pyarrow.Table):
        return _one_batch(output)
    if isinstance(output, Mapping):
        return columns_to_arrow(output, function)
    if type(output).__module__.partition(".")[0] == "pandas" and hasattr(output, "columns"):
        return pyarrow.RecordBatch.from_pandas(output, preserve_index=False).replace_schema_metadata(None)
    raise ValueError(
        f"{function} returned {type(output).__name__}; it must return a dict of columns (numpy arrays or lists), a "
        "pandas.DataFrame or a pyarrow.Table, or yield such batches"
    )


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


def columns_to_arrow(columns: Mapping[str, Any], function: str) -> Any:
    """A dict of columns as a record batch."""
    import pyarrow

    arrays = {}
    for name, values in columns.items():
        if not isinstance(name, str):
            # One type for all wrong outputs, as in Ray.
            raise ValueError(f"{function} returned a column named {name!r}, which is no string")  # noqa: TRY004
        try:
            arrays[name] = column_to_arrow(values)
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"{function} returned the column {name!r}, which cannot be stored: {error}") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{function} returned columns of different lengths: {lengths}")
    return pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def column_to_arrow(values: Any) -> Any:
    """Values as an Arrow array."""
    import numpy
    import pyarrow

    if isinstance(values, pyarrow.ChunkedArray):
        combined = values.combine_chunks()
        return combined if isinstance(combined, pyarrow.Array) else pyarrow.concat_arrays(combined.chunks)
    if isinstance(values, pyarrow.Array):
        return values
    if not isinstance(values, numpy.ndarray):
        if hasattr(values, "__array__") and not isinstance(values, (list, tuple)):
            values = numpy.asarray(values)
        elif isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise TypeError(f"it is {type(values).__name__} and not one value per row")
        else:
            return _list_to_arrow(list(values))
    if values.ndim == 0:
        raise TypeError("it is a single number and not one value per row")
    if values.ndim > 1:
        return _tensor_to_arrow(values)
    if values.dtype == object:
        return _list_to_arrow(values.tolist())
    return pyarrow.array(values)


def _list_to_arrow(values: list[Any]) -> Any:
    import numpy
    import pyarrow

    if values and all(isinstance(value, numpy.ndarray) and value.ndim > 0 for value in values):
        first = values[0]
        if all(value.shape == first.shape and value.dtype == first.dtype for value in values):
            return _tensor_to_arrow(numpy.stack(values))
        return pyarrow.array([value.tolist() for value in values])
    return pyarrow.array(values)


def _tensor_to_arrow(values: Any) -> Any:
    import numpy
    import pyarrow

    flat = pyarrow.array(numpy.ascontiguousarray(values).reshape(-1))
    if 0 in values.shape[1:]:
        raise TypeError(f"its rows have the shape {values.shape[1:]}, which holds no values")
    return functools.reduce(pyarrow.FixedSizeListArray.from_arrays, reversed(values.shape[1:]), flat)


def rows_of(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch or table as dicts of Python values; rows of tensors are numpy arrays."""
    columns = {name: _values_of(batch.column(i)) for i, name in enumerate(batch.schema.names)}
    if not columns:
        return [{} for _ in range(batch.num_rows)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values_of(column: Any) -> list[Any]:
    from pyarrow import types

    if types.is_fixed_size_list(column.type) and column.null_count == 0 and _is_numeric(column.type):
        return list(column_to_numpy(column))
    return column.to_pylist()


def rows_to_arrow(rows: list[Mapping[str, Any]], function: str) -> Any:
    """Dicts of values as a record batch; a key that a row lacks is null there."""
    names: dict[str, None] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"{function} returned {type(row).__name__}; it must return a dict for a row")  # noqa: TRY004
        names.update(dict.fromkeys(row))
    return columns_to_arrow({name: [row.get(name) for row in rows] for name in names}, function)
