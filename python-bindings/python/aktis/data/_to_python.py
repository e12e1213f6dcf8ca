"""Columns of Arrow as numpy, pandas and Python values. Nothing is rounded on the way.

This module imports pyarrow, so it is itself imported only where rows are at hand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy
import pyarrow
from pyarrow import compute, types

from . import _plain_values, _tensors
from ._untouched import children, is_list

#: Whole numbers beyond this have no exact place in a float.
_MOST_EXACT = 2**53
_FAILURES = (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OverflowError, ValueError)


@contextlib.contextmanager
def naming(field: pyarrow.Field) -> Iterator[None]:
    """Failures name the column, and the way out."""
    try:
        yield
    except KeyError as error:
        # What pyarrow says of a type that it has no class for.
        if str(field.type) not in ("day_time_interval", "month_interval"):
            raise
        raise ValueError(
            f"the column {field.name!r} is a {field.type}, whose values pyarrow cannot hold: "
            f"with_column({field.name!r}, col({field.name!r}).cast(pyarrow.month_day_nano_interval())) makes those of it that it can"
        ) from error
    except _FAILURES as error:
        raise ValueError(
            f"the column {field.name!r} ({field.type}) has values that cannot be given to Python: {error}; take batches with "
            "batch_format='pyarrow', or cast the column there first"
        ) from error


def to_numpy(column: Any, metadata: Any = None) -> numpy.ndarray:
    """A column as numpy: a view where possible. ``metadata`` is that of its field."""
    column = _one_array(column)
    tensor = _tensors.tensor_of(column.type, metadata)
    if tensor is not None:
        return _tensors.to_numpy(column, tensor)
    column = _plain(column)
    refuse_finer_times(column)
    kind = column.type
    if are_arrays(column):
        return _fixed_lists(column) if column.null_count == 0 else _plain_values.objects(fixed_list_rows(column))
    if types.is_integer(kind):
        return _integers(column)
    if types.is_nested(kind) and _needs_python(column):
        return _plain_values.objects(column.to_pylist())
    return _plain_values.to_numpy(column)


def to_values(column: Any, metadata: Any = None) -> list[Any]:
    """A column as Python values; rows of tensors are numpy arrays."""
    column = _one_array(column)
    tensor = _tensors.tensor_of(column.type, metadata)
    if tensor is not None:
        return _tensors.to_rows(column, tensor)
    if isinstance(column, pyarrow.ExtensionArray):
        if isinstance(column.type, pyarrow.UuidType):
            return column.to_pylist()
        column = column.storage
    refuse_finer_times(column)
    return fixed_list_rows(column) if are_arrays(column) else column.to_pylist()


def to_pandas(table: Any) -> Any:
    """A batch or table as a data frame.

    Rows of tensors are arrays of their shape. Whole numbers beside nulls are of pandas' nullable types, so that they stay
    whole.
    """
    frame = None
    special: dict[str, Any] = {}
    for index, field in enumerate(table.schema):
        with naming(field):
            series = _special_series(table.column(index), field)
        if series is not None:
            special[field.name] = series
    if not special:
        return _frame(table)
    import pandas

    others = [name for name in table.schema.names if name not in special]
    frame = _frame(table.select(others)) if others else pandas.DataFrame(index=range(table.num_rows))
    columns = {name: special[name] if name in special else frame[name] for name in table.schema.names}
    return pandas.DataFrame(columns, index=frame.index)


def _frame(table: Any) -> Any:
    try:
        return table.to_pandas()
    except _FAILURES:
        for index, field in enumerate(table.schema):
            with naming(field):
                table.column(index).to_pandas()
        raise


def to_series(column: Any, metadata: Any = None) -> Any:
    """A column as it stands in a data frame."""
    field = pyarrow.field("column", column.type, metadata=metadata)
    return to_pandas(pyarrow.table([column], pyarrow.schema([field])))["column"]


def _special_series(column: Any, field: pyarrow.Field) -> Any:
    """A column that pyarrow would not turn into pandas as it is."""
    kind = field.type
    refuse_finer_times(column)
    if types.is_dictionary(kind):
        return _categories(_one_array(column))
    is_tensor = _tensors.tensor_of(kind, field.metadata) is not None or is_array_list(kind)
    if not (is_tensor or isinstance(kind, pyarrow.BaseExtensionType) or types.is_nested(kind)):
        if not (types.is_integer(kind) and column.null_count):
            return None
        return column.to_pandas(types_mapper=_nullable_integers().get)
    column = _one_array(column)
    if not is_tensor and isinstance(column, pyarrow.ExtensionArray):
        column = column.storage
    plain = _without_views(kind)
    if not is_tensor and plain is not kind:
        return column.cast(plain).to_pandas()
    if is_tensor or _needs_python(column):
        import pandas

        return pandas.Series(_plain_values.objects(to_values(column, field.metadata)), dtype=object)
    return None


def _categories(column: pyarrow.DictionaryArray) -> Any:
    """Values of a dictionary where some are null or there twice, which Arrow allows and pandas does not."""
    values = column.dictionary
    if values.null_count == 0 and len(values.unique()) == len(values):
        return None
    again = column.dictionary_decode().dictionary_encode()
    return pyarrow.DictionaryArray.from_arrays(again.indices, again.dictionary, ordered=column.type.ordered).to_pandas()


def _nullable_integers() -> dict[Any, Any]:
    import pandas

    widths = (8, 16, 32, 64)
    signed = {getattr(pyarrow, f"int{width}")(): getattr(pandas, f"Int{width}Dtype")() for width in widths}
    return signed | {getattr(pyarrow, f"uint{width}")(): getattr(pandas, f"UInt{width}Dtype")() for width in widths}


def _one_array(column: Any) -> pyarrow.Array:
    if not isinstance(column, pyarrow.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pyarrow.Array) else pyarrow.concat_arrays(combined.chunks)


def _plain(column: pyarrow.Array) -> pyarrow.Array:
    """A column of the type that its values have, without extensions, dictionaries and views."""
    if isinstance(column, pyarrow.ExtensionArray):
        return _plain(column.storage)
    if types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    kind = _without_views(column.type)
    return column if kind is column.type else column.cast(kind)


def _without_views(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type with text and bytes that numpy can take; itself if there is nothing to change."""
    if types.is_string_view(kind):
        return pyarrow.large_string()
    if types.is_binary_view(kind):
        return pyarrow.large_binary()
    if is_list(kind):
        item = kind.value_type
        inner = _without_views(item)
        if inner is item:
            return kind
        if types.is_fixed_size_list(kind):
            return pyarrow.list_(inner, kind.list_size)
        return pyarrow.large_list(inner) if types.is_large_list(kind) else pyarrow.list_(inner)
    return kind


def refuse_finer_times(column: Any) -> None:
    """Raises for times of day that have nanoseconds, for which Python, numpy and pandas have no word."""
    if not _has_nanotimes(column.type):
        return
    column = _one_array(column)
    if types.is_time64(column.type):
        nanoseconds = column.drop_null().view(pyarrow.int64()).to_numpy()
        if (nanoseconds % 1000).any():
            raise ValueError("it has times of day with nanoseconds, of which Python's have none")
    for inner in children(column):
        refuse_finer_times(inner)


def _has_nanotimes(kind: pyarrow.DataType) -> bool:
    if types.is_time64(kind):
        return bool(kind.unit == "ns")
    if is_list(kind):
        return _has_nanotimes(kind.value_type)
    if types.is_map(kind):
        return _has_nanotimes(kind.key_type) or _has_nanotimes(kind.item_type)
    return types.is_struct(kind) and any(_has_nanotimes(field.type) for field in kind)


def is_array_list(kind: pyarrow.DataType) -> bool:
    """Whether rows of this type are arrays of one shape: lists of a fixed size of numbers, or of such lists."""
    if not types.is_fixed_size_list(kind) or kind.list_size == 0:
        return False
    inner = kind.value_type
    is_number = types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner)
    return is_number or is_array_list(inner)


def are_arrays(column: pyarrow.Array) -> bool:
    """Whether its rows are arrays of one shape: of such a type, and no list inside of a row is null."""
    if not is_array_list(column.type):
        return False
    inner = column.flatten()
    while types.is_fixed_size_list(inner.type):
        if inner.null_count:
            return False
        inner = inner.flatten()
    return True


def _fixed_lists(column: pyarrow.Array) -> numpy.ndarray:
    """The rows that are not null, as one array."""
    shape = [len(column) - column.null_count]
    flat = column
    while types.is_fixed_size_list(flat.type):
        shape.append(flat.type.list_size)
        flat = flat.flatten()
    if flat.null_count and types.is_integer(flat.type):
        return _integers(flat).reshape(shape)
    return _tensors.values_to_numpy(flat).reshape(shape)


def fixed_list_rows(column: pyarrow.Array) -> list[Any]:
    """One array per row, None where it is null."""
    if column.null_count == 0:
        return list(_fixed_lists(column))
    rows = iter(_fixed_lists(column.filter(column.is_valid())))
    return [next(rows) if is_there else None for is_there in column.is_valid().to_pylist()]


def _integers(column: pyarrow.Array) -> numpy.ndarray:
    """Whole numbers: floats with NaN beside nulls, as everywhere in numpy, and objects where a float would round."""
    if column.null_count == 0:
        return _plain_values.view(column)
    if column.type.bit_width == 64:
        ends = compute.call_function("min_max", [column]).as_py()
        if ends["min"] is not None and max(abs(ends["min"]), abs(ends["max"])) > _MOST_EXACT:
            return _plain_values.objects(column.to_pylist())
    return _plain_values.to_numpy(column)


def _needs_python(column: pyarrow.Array) -> bool:
    """Whether numpy has no word for something inside: for whole numbers beside nulls, or for moments in structs and maps."""
    kind = column.type
    if types.is_integer(kind):
        return column.null_count > 0
    if types.is_struct(kind) or types.is_map(kind) or types.is_fixed_size_binary(kind):
        return True
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _needs_python(column.flatten())
    return False
