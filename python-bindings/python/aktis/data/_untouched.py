"""A column that a function hands back as it got it is the column that it was.

On their way through numpy, pandas and Python, columns lose what these have no word for: nulls among floats, the width of
numbers in structs, text of the large kind. Whether a function has changed a column is found out by comparing what it
returned with what becomes of the column if nobody touches it: both have lost the same.

This module imports pyarrow, so it is itself imported only where rows are at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pyarrow
from pyarrow import types

from . import _plain_values

#: Rows that are looked at first: most columns that were changed differ there.
_GLIMPSE = 3
_FAILURES = (pyarrow.ArrowException, OverflowError, TypeError, ValueError)


def as_given(
    column: pyarrow.Array, given: pyarrow.Array, untouched: Callable[[pyarrow.Array], pyarrow.Array] | None
) -> pyarrow.Array:
    """TYP-3: `given`, if `column` is what becomes of it when nobody touches it; else `column`.

    ``untouched`` makes that of it; ``None``: nobody knows, and only the same values in another guise are taken for it.
    """
    if len(column) != len(given):
        return column
    if column.type == given.type and not (_has_null_floats(column) or _has_null_floats(given)):
        return column
    if _is_in_guise(column, given):
        return given
    may_have_lost = types.is_nested(given.type) or types.is_floating(column.type)
    if untouched is None or not may_have_lost:
        return column
    try:
        glimpse = untouched(given.slice(0, _GLIMPSE))
        if glimpse.type == column.type and not equal(column.slice(0, _GLIMPSE), glimpse):
            return column
        return given if equal(column, untouched(given)) else column
    except _FAILURES:
        return column


def equal(one: pyarrow.Array, other: pyarrow.Array) -> bool:
    """Whether columns have the same type and values, where among floats NaN and null are the same."""
    if one.type != other.type or len(one) != len(other):
        return False
    if isinstance(one, pyarrow.ExtensionArray):
        return equal(one.storage, other.storage)
    if types.is_floating(one.type):
        return _equal_floats(_plain_values.to_numpy(one), _plain_values.to_numpy(other))
    if not types.is_nested(one.type):
        return one.equals(other)
    if not one.is_valid().equals(other.is_valid()) or not numpy.array_equal(_lengths(one), _lengths(other)):
        return False
    parts = list(zip(children(one), children(other), strict=True))
    return all(equal(mine, its) for mine, its in parts) if parts else one.equals(other)


def _equal_floats(one: numpy.ndarray, other: numpy.ndarray) -> bool:
    bits = f"i{one.dtype.itemsize}"
    # By their bits, because 0.0 and -0.0 are two values.
    is_same = (one.view(bits) == other.view(bits)) | (numpy.isnan(one) & numpy.isnan(other))
    return bool(is_same.all())


def _lengths(column: pyarrow.Array) -> numpy.ndarray:
    kind = column.type
    if types.is_map(kind):
        return numpy.diff(_plain_values.view(column.offsets))
    is_counted = types.is_list(kind) or types.is_large_list(kind)
    return _plain_values.view(column.value_lengths().fill_null(0)) if is_counted else numpy.empty(0)


def children(column: pyarrow.Array) -> list[pyarrow.Array]:
    """The columns inside of a nested one, without what lies outside of its slice."""
    kind = column.type
    if types.is_struct(kind):
        return column.flatten()
    if types.is_map(kind):
        first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return [part.slice(first, last - first) for part in (column.keys, column.items)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [column.flatten()]
    return []


def _has_null_floats(column: pyarrow.Array) -> bool:
    """Whether some float is null, for which numpy and pandas have no other word than NaN."""
    if types.is_floating(column.type):
        return column.null_count > 0
    return any(map(_has_null_floats, children(column)))


def _is_in_guise(column: pyarrow.Array, given: pyarrow.Array) -> bool:
    """Whether the values are the same, in a type that numpy or Python make of the other."""
    if column.type == given.type or not _is_guise(column.type, given.type):
        return False
    try:
        if types.is_dictionary(given.type):
            return _decoded(column).cast(given.type.value_type).equals(_decoded(given))
        return column.cast(given.type).equals(given)
    except pyarrow.ArrowException:
        return False


def _decoded(column: pyarrow.Array) -> pyarrow.Array:
    return column.dictionary_decode() if types.is_dictionary(column.type) else column


def _is_guise(kind: pyarrow.DataType, given: pyarrow.DataType) -> bool:
    """Whether numpy or Python make `kind` of `given`. Numbers of other widths are not among it: these are meant."""
    if kind == given or types.is_null(kind):
        return True
    if types.is_dictionary(given):
        return _is_guise(kind.value_type if types.is_dictionary(kind) else kind, given.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return types.is_string(given) or types.is_large_string(given) or types.is_string_view(given)
    if types.is_binary(kind) or types.is_large_binary(kind):
        is_sized = types.is_fixed_size_binary(given)
        return is_sized or types.is_binary(given) or types.is_large_binary(given) or types.is_binary_view(given)
    if types.is_temporal(kind):
        return types.is_temporal(given)
    if types.is_decimal(kind):
        return types.is_decimal(given)
    if is_list(kind) and (is_list(given) or types.is_map(given)):
        return types.is_map(given) or _is_guise(kind.value_type, given.value_type)
    if types.is_struct(kind) and types.is_struct(given):
        known = {field.name: field.type for field in given}
        return all(field.name in known and _is_guise(field.type, known[field.name]) for field in kind)
    return False


def is_list(kind: pyarrow.DataType) -> bool:
    """Whether its values are lists, of whatever offsets or of a fixed size."""
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
