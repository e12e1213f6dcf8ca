"""Plain values, from Arrow to numpy and from numpy and Python to Arrow: numbers, moments, text, bytes, and lists of them.

pyarrow does the same, and imports pandas for it: a quarter of a second and 40 MB in every process, the driver and each worker. What is not here
goes by pyarrow.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy
import pyarrow
from pyarrow import types

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

#: What Arrow counts moments and durations in. Days have 32 bits there, and are not followed.
_UNITS = ("s", "ms", "us", "ns")
#: What numpy has no memory for.
_OBJECTS = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)


def view(column: pyarrow.Array) -> numpy.ndarray:
    """The numbers of a column without nulls, where they lie; whether something is so, which numpy has a byte for and Arrow a bit.

    >>> view(pyarrow.array([1, 2, 3]).slice(1)).tolist()
    [2, 3]
    """
    kind = column.type
    if len(column) > 0 and types.is_boolean(kind):
        return _bits(column.buffers()[1], column)
    if len(column) == 0 or not (types.is_integer(kind) or types.is_floating(kind)):
        return to_numpy(column)
    return _lying_there(column, numpy.dtype(kind.to_pandas_dtype()))


def to_numpy(column: pyarrow.Array) -> numpy.ndarray:
    """A column as pyarrow's ``to_numpy(zero_copy_only=False)`` gives it: beside nulls numbers are floats with NaN, whatever is no number or moment
    is an object, and lists are arrays.

    >>> to_numpy(pyarrow.array([1, None, 3])).tolist()
    [1.0, nan, 3.0]
    >>> to_numpy(pyarrow.array(["a", None])).tolist()
    ['a', None]
    >>> to_numpy(pyarrow.array([[1, 2], []])).tolist()
    [array([1, 2]), array([], dtype=int64)]
    """
    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind):
        return _numbers(column)
    if types.is_timestamp(kind) or types.is_duration(kind):
        return _moments(column, f"{'M' if types.is_timestamp(kind) else 'm'}8[{kind.unit}]")
    if types.is_list(kind) or types.is_large_list(kind):
        return _lists(column)
    if types.is_boolean(kind) and column.null_count == 0:
        return view(column) if len(column) else numpy.empty(0, bool)
    if types.is_boolean(kind) or any(is_one(kind) for is_one in _OBJECTS):
        return objects(column.to_pylist())
    return column.to_numpy(zero_copy_only=False)


def of_numpy(values: numpy.ndarray) -> pyarrow.Array:
    """An array of one dimension as a column.

    >>> of_numpy(numpy.array([0.5, 1.5])).to_pylist()
    [0.5, 1.5]
    >>> of_numpy(numpy.array(["a", "bc"])).to_pylist()
    ['a', 'bc']
    """
    dtype = values.dtype
    if dtype.kind == "b":
        return _of_memory(pyarrow.bool_(), numpy.packbits(values, bitorder="little"), len(values))
    if dtype.kind in "iuf" and dtype.itemsize <= 8 and dtype.isnative:
        return _of_memory(pyarrow.from_numpy_dtype(dtype), values, len(values))
    if dtype.kind in "mM" and dtype.isnative and numpy.datetime_data(dtype) in [(unit, 1) for unit in _UNITS]:
        return _of_memory(pyarrow.from_numpy_dtype(dtype), values, len(values), is_there=~numpy.isnat(values))
    if dtype.kind == "U":
        return of_list(values.tolist()).cast(pyarrow.string())
    return pyarrow.array(values)


def of_list(values: list[Any]) -> pyarrow.Array:
    """Values that Python has words for as a column, as ``pyarrow.array`` makes it.

    >>> of_list(["a", None]).type, of_list([[1], []]).type
    (DataType(string), ListType(list<item: int64>))
    """
    column = plain_column(values)
    return pyarrow.array(values) if column is None else column


def plain_column(values: list[Any]) -> pyarrow.Array | None:
    """Values as a column, if they are of one plain type, where nothing can be lost; else None."""
    from aktis import _aktis

    return _aktis.data.column_of_list(values)


def objects(values: list[Any]) -> numpy.ndarray:
    """An array of objects, which numpy must not try to look into."""
    return numpy.fromiter(values, object, len(values))


def _numbers(column: pyarrow.Array) -> numpy.ndarray:
    dtype = numpy.dtype(column.type.to_pandas_dtype())
    if column.null_count == 0:
        return _lying_there(column, dtype)
    values = _lying_there(column, dtype).astype(dtype if dtype.kind == "f" else "f8")
    values[~_is_there(column)] = numpy.nan
    return values


def _moments(column: pyarrow.Array, dtype: DTypeLike) -> numpy.ndarray:
    values = _lying_there(column, numpy.dtype(dtype))
    if column.null_count == 0:
        return values
    values = values.copy()
    values[~_is_there(column)] = "NaT"
    return values


def _lists(column: pyarrow.Array) -> numpy.ndarray:
    """The items of all rows in one array, of which each row is a part."""
    ends = view(column.offsets).tolist()
    items = to_numpy(column.values.slice(ends[0], ends[-1] - ends[0]))
    rows: list[Any] = [items[begin - ends[0] : end - ends[0]] for begin, end in itertools.pairwise(ends)]
    if column.null_count:
        rows = [row if is_there else None for row, is_there in zip(rows, _is_there(column).tolist(), strict=True)]
    return objects(rows)


def _lying_there(column: pyarrow.Array, dtype: numpy.dtype) -> numpy.ndarray:
    memory = column.buffers()[1]
    if memory is None or len(column) == 0:
        return numpy.empty(0, dtype)
    # Nobody may write there, whoever has made it.
    return numpy.frombuffer(
        memoryview(memory).toreadonly(), dtype, count=len(column), offset=column.offset * dtype.itemsize
    )


def _is_there(column: pyarrow.Array) -> numpy.ndarray:
    memory = column.buffers()[0]
    return numpy.ones(len(column), bool) if memory is None else _bits(memory, column)


def _bits(memory: pyarrow.Buffer, column: pyarrow.Array) -> numpy.ndarray:
    first, begin = divmod(column.offset, 8)
    bits = numpy.frombuffer(memory, numpy.uint8, offset=first)
    return numpy.unpackbits(bits, count=begin + len(column), bitorder="little")[begin:].astype(bool)


def _of_memory(
    kind: pyarrow.DataType, values: numpy.ndarray, rows: int, is_there: numpy.ndarray | None = None
) -> pyarrow.Array:
    memory = pyarrow.py_buffer(numpy.ascontiguousarray(values))
    if is_there is None or is_there.all():
        return pyarrow.Array.from_buffers(kind, rows, [None, memory], null_count=0)
    valid = pyarrow.py_buffer(numpy.packbits(is_there, bitorder="little"))
    return pyarrow.Array.from_buffers(kind, rows, [valid, memory], null_count=rows - int(is_there.sum()))
