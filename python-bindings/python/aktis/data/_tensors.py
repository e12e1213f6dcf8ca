"""Tensors in Arrow: columns whose rows are arrays of numbers, with shape and type.

Three layouts are read, and written as the first two:

- ``arrow.fixed_shape_tensor``, Arrow's canonical type, for rows of one shape;
- ``arrow.variable_shape_tensor``, canonical as well, for rows of one type and rank whose shapes differ;
- ``ray.data.arrow_tensor``, ``..._v2`` and ``ray.data.arrow_variable_shaped_tensor``, as Ray Data writes them.

Rows of one dimension are plain lists instead (of a fixed size, where they are one array): everybody can read these.

This module imports pyarrow, so it is itself imported only where rows are at hand.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
from pyarrow import types

from . import _plain_values

FIXED = "arrow.fixed_shape_tensor"
VARIABLE = "arrow.variable_shape_tensor"
_RAY_FIXED = ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_RAY_VARIABLE = "ray.data.arrow_variable_shaped_tensor"
_NAME, _METADATA = b"ARROW:extension:name", b"ARROW:extension:metadata"
#: More values than this have no place behind 32-bit offsets.
_MOST_VALUES = 2**31 - 1


class VariableShapeTensorType(pyarrow.ExtensionType):
    """``arrow.variable_shape_tensor``, which pyarrow does not have yet."""

    def __init__(self, value_type: pyarrow.DataType, ndim: int, *, is_large: bool = False) -> None:
        data = pyarrow.large_list(value_type) if is_large else pyarrow.list_(value_type)
        super().__init__(pyarrow.struct([("data", data), ("shape", pyarrow.list_(pyarrow.int32(), ndim))]), VARIABLE)

    def __arrow_ext_serialize__(self) -> bytes:
        return b"{}"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pyarrow.DataType, _: bytes) -> VariableShapeTensorType:
        data, shape = storage.field("data").type, storage.field("shape").type
        return cls(data.value_type, shape.list_size, is_large=types.is_large_list(data))


try:
    pyarrow.register_extension_type(VariableShapeTensorType(pyarrow.uint8(), 1))
except pyarrow.ArrowKeyError:
    # Somebody else in this process, or a newer pyarrow, knows the type.
    pass


@dataclass(frozen=True)
class Tensor:
    """What a column's rows are: arrays of ``value_type`` and of this shape, or of any shape of this rank."""

    value_type: pyarrow.DataType
    ndim: int
    shape: tuple[int, ...] | None = None
    permutation: tuple[int, ...] | None = None


def tensor_of(kind: pyarrow.DataType, metadata: Any = None) -> Tensor | None:
    """The description of a tensor column by its type, or by the metadata of its field; None: it is no tensor."""
    if isinstance(kind, pyarrow.BaseExtensionType):
        name, storage = kind.extension_name, kind.storage_type
        if isinstance(kind, pyarrow.FixedShapeTensorType):
            order = kind.permutation
            return Tensor(kind.value_type, len(kind.shape), tuple(kind.shape), None if order is None else tuple(order))
        serialized = kind.__arrow_ext_serialize__() if isinstance(kind, pyarrow.ExtensionType) else b""
    elif metadata and _NAME in metadata:
        name, serialized, storage = metadata[_NAME].decode(), metadata.get(_METADATA, b""), kind
    else:
        return None
    if name == FIXED:
        described = json.loads(serialized)
        order = described.get("permutation")
        shape = tuple(described["shape"])
        return Tensor(storage.value_type, len(shape), shape, None if order is None else tuple(order))
    if name in _RAY_FIXED:
        shape = tuple(json.loads(serialized))
        return Tensor(storage.value_type, len(shape), shape)
    if name in (VARIABLE, _RAY_VARIABLE):
        value_type = storage.field("data").type.value_type
        shape_type = storage.field("shape").type
        ndim = shape_type.list_size if types.is_fixed_size_list(shape_type) else int(json.loads(serialized))
        return Tensor(value_type, ndim)
    return None


def to_rows(column: pyarrow.Array, tensor: Tensor) -> list[Any]:
    """One array per row, None where it is null."""
    storage = column.storage if isinstance(column, pyarrow.ExtensionArray) else column
    if tensor.shape is not None:
        arrays = iter(_stacked(storage, tensor.shape, tensor.permutation))
    else:
        valid = storage.filter(storage.is_valid()) if storage.null_count else storage
        arrays = _cut(valid, tensor.ndim)
    if storage.null_count == 0:
        return list(arrays)
    return [next(arrays) if is_there else None for is_there in storage.is_valid().to_pylist()]


def to_numpy(column: pyarrow.Array, tensor: Tensor) -> numpy.ndarray:
    """One array whose first index is the row, where all rows have one shape; else an array of arrays."""
    storage = column.storage if isinstance(column, pyarrow.ExtensionArray) else column
    if tensor.shape is not None and storage.null_count == 0:
        return _stacked(storage, tensor.shape, tensor.permutation)
    rows = to_rows(storage, tensor)
    if rows and storage.null_count == 0 and all(row.shape == rows[0].shape for row in rows):
        return numpy.stack(rows)
    return _plain_values.objects(rows)


def _stacked(storage: pyarrow.Array, shape: tuple[int, ...], permutation: tuple[int, ...] | None) -> numpy.ndarray:
    """The rows that are not null."""
    flat = values_to_numpy(storage.flatten())
    stacked = flat.reshape(len(storage) - storage.null_count, *shape)
    if permutation is None or permutation == tuple(range(len(shape))):
        return stacked
    return stacked.transpose(0, *(axis + 1 for axis in permutation))


def _cut(storage: pyarrow.StructArray, ndim: int) -> Any:
    data = storage.field("data")
    shapes = values_to_numpy(storage.field("shape").flatten()).reshape(len(storage), ndim)
    flat = values_to_numpy(data.flatten())
    start = 0
    for shape in shapes.tolist():
        end = start + math.prod(shape)
        yield flat[start:end].reshape(shape)
        start = end


def values_to_numpy(flat: pyarrow.Array) -> numpy.ndarray:
    """Numbers, without a copy where that is possible."""
    return _plain_values.view(flat) if flat.null_count == 0 else _plain_values.to_numpy(flat)


def from_stacked(values: numpy.ndarray, like: Tensor | None = None) -> pyarrow.Array:
    """Rows of one shape as a column.

    Rows without any value have no place in a list of a fixed size; and a column whose shapes differed before (``like``)
    keeps its type where those of one batch happen to be the same.
    """
    shape = values.shape[1:]
    if 0 in shape or (like is not None and like.shape is None and like.ndim == len(shape)):
        return _variable(list(values), values.dtype, len(shape))
    flat = _plain_values.of_numpy(numpy.ascontiguousarray(values).reshape(-1))
    storage = pyarrow.FixedSizeListArray.from_arrays(flat, math.prod(shape))
    if len(shape) == 1:
        return storage
    return pyarrow.ExtensionArray.from_storage(pyarrow.fixed_shape_tensor(flat.type, shape), storage)


def shape_of_lists(kind: pyarrow.DataType | None) -> tuple[int, ...]:
    """The lengths of lists of a fixed size in lists of a fixed size; empty for every other type."""
    shape: tuple[int, ...] = ()
    while kind is not None and types.is_fixed_size_list(kind):
        shape, kind = (*shape, kind.list_size), kind.value_type
    return shape if len(shape) > 1 and 0 not in shape else ()


def in_lists(stacked: numpy.ndarray, mask: list[bool] | None = None) -> pyarrow.Array:
    """Rows of one shape as lists of a fixed size in each other. ``mask``: which of them are null."""
    column = _plain_values.of_numpy(numpy.ascontiguousarray(stacked).reshape(-1))
    *outer, last = stacked.shape[1:]
    column = pyarrow.FixedSizeListArray.from_arrays(column, last)
    for length in reversed(outer[1:]):
        column = pyarrow.FixedSizeListArray.from_arrays(column, length)
    is_null = None if mask is None or not any(mask) else _plain_values.of_list(mask)
    return pyarrow.FixedSizeListArray.from_arrays(column, outer[0], mask=is_null)


def rows_in_lists(rows: list[numpy.ndarray | None], shape: tuple[int, ...]) -> pyarrow.Array:
    """Arrays of this shape, or None, as :func:`in_lists`."""
    dtype = common_dtype([row for row in rows if row is not None])
    empty = numpy.zeros(shape, dtype)
    stacked = numpy.stack([empty if row is None else row.astype(dtype, copy=False) for row in rows])
    return in_lists(stacked, [row is None for row in rows])


def from_rows(rows: list[numpy.ndarray | None], like: Tensor | None = None) -> pyarrow.Array:
    """Arrays of one rank and type, or None, as a column.

    Its type never depends on whether the shapes of these rows happen to be the same.
    """
    arrays = [row for row in rows if row is not None]
    ranks = sorted({row.ndim for row in arrays})
    if len(ranks) > 1:
        raise ValueError(f"its rows are arrays of {ranks[0]} and of {ranks[-1]} dimensions; make them of one rank")
    dtype = common_dtype(arrays)
    if like is not None and like.shape is not None and all(row.shape == like.shape for row in arrays):
        if len(arrays) == len(rows):
            return from_stacked(numpy.stack([row.astype(dtype, copy=False) for row in arrays]))
        return _fixed_with_nulls(rows, dtype, like.shape)
    return _variable(rows, dtype, ranks[0])


def common_dtype(arrays: list[numpy.ndarray]) -> numpy.dtype:
    """The type that holds the values of all arrays without loss."""
    dtypes = {array.dtype for array in arrays}
    if len(dtypes) == 1:
        return next(iter(dtypes))
    common = numpy.result_type(*dtypes)
    for array in arrays:
        if array.dtype != common and not numpy.array_equal(array.astype(common).astype(array.dtype), array):
            raise ValueError(f"its rows are of {array.dtype} and of {common}, which does not hold all of their values")
    return common


def _fixed_with_nulls(rows: list[Any], dtype: numpy.dtype, shape: tuple[int, ...]) -> pyarrow.Array:
    empty = numpy.zeros(shape, dtype)
    flat = _plain_values.of_numpy(
        numpy.stack([empty if row is None else row for row in rows]).astype(dtype).reshape(-1)
    )
    mask = _plain_values.of_list([row is None for row in rows])
    storage = pyarrow.FixedSizeListArray.from_arrays(flat, math.prod(shape), mask=mask)
    if len(shape) == 1:
        return storage
    return pyarrow.ExtensionArray.from_storage(pyarrow.fixed_shape_tensor(flat.type, shape), storage)


def _variable(rows: list[Any], dtype: numpy.dtype, ndim: int) -> pyarrow.Array:
    data = lists(rows, dtype)
    shapes = [[0] * ndim if row is None else row.shape for row in rows]
    flat = _plain_values.of_numpy(numpy.array(shapes, dtype=numpy.int32).reshape(-1))
    kind = VariableShapeTensorType(data.type.value_type, ndim, is_large=types.is_large_list(data.type))
    storage = pyarrow.StructArray.from_arrays(
        [data, pyarrow.FixedSizeListArray.from_arrays(flat, ndim)],
        fields=list(kind.storage_type),
        mask=_plain_values.of_list([row is None for row in rows]) if any(row is None for row in rows) else None,
    )
    return pyarrow.ExtensionArray.from_storage(kind, storage)


def lists(rows: list[numpy.ndarray | None], dtype: numpy.dtype) -> pyarrow.Array:
    """The values of each array as a list."""
    lengths = [0 if row is None else row.size for row in rows]
    total = sum(lengths)
    flat = [row.reshape(-1) for row in rows if row is not None]
    values = numpy.concatenate(flat).astype(dtype, copy=False) if flat else numpy.empty(0, dtype)
    offsets = numpy.zeros(len(rows) + 1, dtype=numpy.int64)
    numpy.cumsum(lengths, out=offsets[1:])
    is_large = total > _MOST_VALUES
    kind = pyarrow.LargeListArray if is_large else pyarrow.ListArray
    offsets = _plain_values.of_numpy(offsets if is_large else offsets.astype(numpy.int32))
    mask = _plain_values.of_list([row is None for row in rows]) if any(row is None for row in rows) else None
    return kind.from_arrays(offsets, _plain_values.of_numpy(values), mask=mask)
