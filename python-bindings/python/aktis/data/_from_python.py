"""What functions return as columns of Arrow.

The rules, which docs/data-types.md tells at length:

- TYP-1 (type-by-container): the type of a column follows from what its values are, never from how rows fell into a
  batch. An array of two dimensions is a list of a fixed size per row, one of more is a tensor; arrays one by one, in a list
  or in an array of objects, are lists or tensors whose shapes may differ, also where they happen to be the same.
- TYP-2 (like-it-came): what numpy and Python cannot tell (a time zone, nanoseconds, the places of a decimal, a map, unsigned
  numbers of 64 bits, bytes of a fixed length, lists of a fixed size in each other, which are arrays of their shape) is taken
  from the column of the same name that the function got.
- TYP-3 (untouched-stays): a column that comes back under its name with the values that it had is the column that it was.

Nothing is rounded, cut or wrapped: what has no exact place is a ``ValueError``.

This module imports pyarrow, so it is itself imported only where rows are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy
import pyarrow
from pyarrow import types

from . import _plain_values, _tensors, _to_python
from ._untouched import as_given, is_list

_UNITS = ("s", "ms", "us", "ns")
#: Types of values that stand beside no tensors.
_PLAIN = (str, bytes, int, float, bool, list, tuple, dict)


#: What functions get of a column, with its field's metadata.
Seen = Callable[[pyarrow.Array, Any], Any]


def to_column(
    values: Any, given: pyarrow.Array | None = None, metadata: Any = None, seen: Seen | None = None
) -> pyarrow.Array:
    """Values as a column; ``given`` is the one of the same name that the function got, with its field's metadata.

    ``seen`` makes of ``given`` what the function got to see of it.
    """
    like = None if given is None else given.type
    tensor = None if like is None else _tensors.tensor_of(like, metadata)
    if given is not None and tensor is None and isinstance(like, pyarrow.BaseExtensionType):
        column = to_column(values, given.storage, None, seen)
        return given if column is given.storage or column.equals(given.storage) else column
    column = _converted(values, like, tensor)
    if given is None:
        return column
    if types.is_null(column.type) and len(column) == len(given) == given.null_count:
        return given
    if tensor is not None:
        return column
    untouched = None if seen is None else lambda column: _converted(seen(column, metadata), like, None)
    return as_given(column, given, untouched)


def _converted(values: Any, like: pyarrow.DataType | None, tensor: _tensors.Tensor | None) -> pyarrow.Array:
    """TYP-1: what the values are decides, not how many there are or which came first."""
    if isinstance(values, pyarrow.ChunkedArray):
        return _to_python._one_array(values)
    if isinstance(values, pyarrow.Array):
        return values
    if type(values).__module__.partition(".")[0] == "pandas" and hasattr(values, "dtype"):
        return _series(values, like, tensor)
    if not isinstance(values, numpy.ndarray):
        if hasattr(values, "__array__") and not isinstance(values, (list, tuple, numpy.generic)):
            values = numpy.asarray(values)
        elif isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise TypeError(f"it is {type(values).__name__} and not one value per row: give a list or an array")
        else:
            return _from_list(list(values), like, tensor)
    if values.ndim == 0:
        raise TypeError("it is a single number and not one value per row: give a list or an array")
    if values.dtype == object:
        # More dimensions of objects are lists of lists.
        return _from_list(list(values), like, tensor)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim > 1:
        if values.shape[1:] == _tensors.shape_of_lists(like):
            return _tensors.in_lists(values)
        return _tensors.from_stacked(values, tensor)
    if values.dtype.kind in "mM":
        values = values.astype(_units_of_arrow(values.dtype))
    column = _plain_values.of_numpy(values)
    if types.is_timestamp(column.type) and like is not None and types.is_timestamp(like) and like.tz:
        return column.cast(pyarrow.timestamp(column.type.unit, like.tz))
    return column


def _series(values: Any, like: pyarrow.DataType | None, tensor: _tensors.Tensor | None) -> pyarrow.Array:
    """A column of pandas, where NaN and its kin mean that there is no value."""
    try:
        column = _to_python._one_array(pyarrow.array(values, from_pandas=True))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        if values.dtype != object:
            raise
    else:
        if values.dtype != object:
            return column
        if _merged(column.type, like) == column.type and not _has_nanoseconds(column, values):
            return _checked_text(column, values)
    import pandas

    def plain(value: Any) -> Any:
        is_missing = value is None or value is pandas.NA or value is pandas.NaT
        return None if is_missing or (isinstance(value, float) and math.isnan(value)) else value

    return _from_list([plain(value) for value in values], like, tensor)


def _from_list(values: list[Any], like: pyarrow.DataType | None, tensor: _tensors.Tensor | None) -> pyarrow.Array:
    if type(next((value for value in values if value is not None), None)) in _PLAIN:
        # The common case: nothing to look at one by one, and what is mixed up is refused in any case.
        return _from_values(values, like)
    if (moments := _moments(values)) is not None:
        return _converted(moments, like, tensor)
    values = [_array_or_value(value) for value in values]
    arrays = [value for value in values if isinstance(value, numpy.ndarray)]
    if not arrays:
        return _from_values(values, like)
    are_numbers = all(array.dtype.kind in "biufMm" for array in arrays)
    if are_numbers and len(arrays) == sum(value is not None for value in values):
        if any(array.ndim > 1 for array in arrays):
            shape = _tensors.shape_of_lists(like)
            if all(array.shape == shape for array in arrays):
                return _tensors.rows_in_lists(values, shape)
            return _tensors.from_rows(values, tensor)
        column = _tensors.lists(values, _tensors.common_dtype(arrays))
        return _sized_like(column, like)
    return _from_values([_without_tensors(value) for value in values], like)


def _moments(values: list[Any]) -> numpy.ndarray | None:
    """Moments or durations of numpy one by one, which pyarrow does not take in every unit, as the array that they came of."""
    dtypes = {value.dtype for value in values if isinstance(value, (numpy.datetime64, numpy.timedelta64))}
    are_all = len(dtypes) == 1 and all(value is None or isinstance(value, numpy.generic) for value in values)
    if not are_all:
        return None
    dtype = next(iter(dtypes))
    try:
        return numpy.array([dtype.type("NaT") if value is None else value for value in values], dtype)
    except (TypeError, ValueError):
        return None


def _units_of_arrow(dtype: numpy.dtype) -> numpy.dtype:
    """The nearest type of moments or durations that Arrow has: numpy also counts in hours or in months."""
    unit, _ = numpy.datetime_data(dtype)
    if unit in ("h", "m") or (dtype.kind == "m" and unit in ("D", "W")):
        return numpy.dtype(f"{dtype.kind}8[s]")
    return numpy.dtype("M8[D]") if dtype.kind == "M" and unit in ("W", "M", "Y") else dtype


def _array_or_value(value: Any) -> Any:
    """Arrays of other libraries as numpy's; an array without dimensions is its value."""
    if hasattr(value, "__array__") and not isinstance(value, (numpy.ndarray, numpy.generic)):
        value = numpy.asarray(value)
    if isinstance(value, numpy.ndarray) and value.ndim == 0:
        return value[()]
    return value


def _sized_like(column: pyarrow.Array, like: pyarrow.DataType | None) -> pyarrow.Array:
    """Lists that all have the length that they came with are of this fixed size again."""
    if like is None or not types.is_fixed_size_list(like) or types.is_nested(like.value_type):
        return column
    try:
        return column.cast(pyarrow.list_(column.type.value_type, like.list_size))
    except pyarrow.ArrowInvalid:
        return column


def _without_tensors(value: Any) -> Any:
    """Arrays of more than one dimension, which Arrow does not take inside of other values, as lists of arrays."""
    if isinstance(value, numpy.ndarray):
        if value.ndim == 1 and value.dtype.kind in "Mm":
            # pyarrow does not take arrays of moments inside of lists.
            return _plain_values.of_numpy(value).to_pylist()
        is_plain = value.ndim == 1 and value.dtype != object
        return value if is_plain else [_without_tensors(row) for row in value]
    if isinstance(value, Mapping):
        return {name: _without_tensors(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        # The pairs of a map are tuples.
        return type(value)(map(_without_tensors, value)) if type(value) in (list, tuple) else list(value)
    return value


def _from_values(values: list[Any], like: pyarrow.DataType | None) -> pyarrow.Array:
    if (plain := _plain_values.plain_column(values)) is not None and _merged(plain.type, like) == plain.type:
        return plain
    try:
        column = _inferred(values, like)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        values = [_without_missing(value) for value in values]
        column = _inferred(values, like)
    target = _merged(column.type, like)
    if _has_nanoseconds(column, values):
        target = _in_nanoseconds(target)
    if target == column.type:
        return _checked_text(column, values)
    try:
        better = _to_python._one_array(pyarrow.array(values, type=target))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return _checked_text(column, values)
    is_exact = not _has_map(target) or _is_same(better.to_pylist(), values)
    return better if is_exact else _checked_text(column, values)


def _inferred(values: list[Any], like: pyarrow.DataType | None) -> pyarrow.Array:
    try:
        return _to_python._one_array(pyarrow.array(values))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        plain = [_without_tensors(value) for value in values]
        for kind in (None, _unsigned(plain), like):
            try:
                column = _to_python._one_array(pyarrow.array(plain, type=kind))
            except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
                continue
            # Told a type, pyarrow cuts fractions and forgets fields that it does not have.
            if kind is None or _is_same(column.to_pylist(), plain):
                return column
        if isinstance(error, OverflowError):
            # The value is wrong, not its type: the same for all that cannot be stored.
            raise ValueError("it has a whole number that does not fit into 64 bits") from error  # noqa: TRY004
        raise


def _without_missing(value: Any) -> Any:
    """``pandas.NA`` and ``pandas.NaT``, which mean that there is no value, as None."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, Mapping):
        return {name: _without_missing(inner) for name, inner in value.items()}
    return [_without_missing(inner) for inner in value] if isinstance(value, list) else value


def _unsigned(values: list[Any]) -> pyarrow.DataType:
    is_nested = any(isinstance(value, (list, tuple)) for value in values)
    return pyarrow.list_(pyarrow.uint64()) if is_nested else pyarrow.uint64()


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same, as far as Arrow can tell; what a struct does not have is null."""
    if isinstance(other, numpy.ndarray):
        other = other.tolist()
    if isinstance(one, dict) and isinstance(other, Mapping):
        return all(_is_same(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _checked_text(column: pyarrow.Array, values: list[Any]) -> pyarrow.Array:
    """pyarrow takes bytes among text for text, whatever they are."""
    if types.is_null(column.type) or types.is_primitive(column.type) or "string" not in str(column.type):
        return column
    is_text = types.is_string(column.type) or types.is_large_string(column.type)
    if is_text and bytes in set(map(type, values)):
        raise ValueError("it has text and bytes")
    try:
        column.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"it has text and bytes: {error}") from error
    return column


def _has_map(kind: pyarrow.DataType) -> bool:
    if types.is_map(kind):
        return True
    if is_list(kind):
        return _has_map(kind.value_type)
    return types.is_struct(kind) and any(_has_map(field.type) for field in kind)


def _merged(inferred: pyarrow.DataType, like: pyarrow.DataType | None) -> pyarrow.DataType:
    """TYP-2 (like-it-came): `inferred`, with what Python cannot tell taken from `like`."""
    if like is None or inferred == like:
        return inferred
    if types.is_timestamp(inferred) and types.is_timestamp(like):
        return pyarrow.timestamp(_finer(inferred.unit, like.unit), like.tz if inferred.tz and like.tz else inferred.tz)
    if types.is_duration(inferred) and types.is_duration(like):
        return pyarrow.duration(_finer(inferred.unit, like.unit))
    if types.is_decimal(inferred) and types.is_decimal(like):
        return _wider_decimal(inferred, like)
    if types.is_int64(inferred) and types.is_uint64(like):
        # Negative numbers fail to convert, and stay what they are.
        return like
    if types.is_binary(inferred) and types.is_fixed_size_binary(like):
        return like
    if is_list(inferred) and types.is_map(like):
        # Pairs of one type look like lists of two.
        return like if types.is_null(inferred.value_type) or is_list(inferred.value_type) else inferred
    if is_list(inferred) and is_list(like):
        return pyarrow.list_(_merged(inferred.value_type, like.value_type))
    if types.is_struct(inferred) and types.is_struct(like):
        known = {field.name: field.type for field in like}
        return pyarrow.struct([(field.name, _merged(field.type, known.get(field.name))) for field in inferred])
    return inferred


def _finer(one: str, other: str) -> str:
    return max(one, other, key=_UNITS.index)


def _wider_decimal(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType:
    scale = max(one.scale, other.scale)
    precision = scale + max(one.precision - one.scale, other.precision - other.scale)
    if one.precision <= other.precision and precision == other.precision and scale == other.scale:
        return other
    if precision > 76:
        return one
    return pyarrow.decimal128(precision, scale) if precision <= 38 else pyarrow.decimal256(precision, scale)


def _has_nanoseconds(column: pyarrow.Array, values: list[Any]) -> bool:
    """Whether pandas' moments or durations are more exact than the microseconds that pyarrow takes them for."""
    kind = column.type
    if not (types.is_timestamp(kind) or types.is_duration(kind)) or kind.unit == "ns":
        return False
    return any(getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0) for value in values)


def _in_nanoseconds(kind: pyarrow.DataType) -> pyarrow.DataType:
    return pyarrow.timestamp("ns", kind.tz) if types.is_timestamp(kind) else pyarrow.duration("ns")
