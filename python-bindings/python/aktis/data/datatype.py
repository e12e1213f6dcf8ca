"""Types of columns under Ray Data's name: :class:`DataType`. Wherever one is taken, a type of pyarrow or its name is taken, too.

>>> import aktis.data
>>> from aktis.data.expressions import col
>>> aktis.data.range(1).with_column("text", col("id").cast(DataType.string())).take_all()
[{'id': 0, 'text': '0'}]
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy
import pyarrow
from pyarrow import types

__all__ = ["DataType"]


class DataType:
    """A type of columns: one of pyarrow, of numpy, or a class of Python.

    >>> DataType.int32(), DataType.from_numpy("float64"), DataType(int)
    (DataType(arrow:int32), DataType(numpy:float64), DataType(python:int))
    >>> DataType.list(DataType.string()).to_arrow_dtype()
    ListType(list<item: string>)
    """

    def __init__(self, physical_dtype: pyarrow.DataType | numpy.dtype | type) -> None:
        if not isinstance(physical_dtype, (pyarrow.DataType, numpy.dtype, type)):
            raise TypeError(
                f"DataType() takes a type of pyarrow or numpy, or a class of Python, not {physical_dtype!r}"
            )
        self._physical_dtype = physical_dtype

    def __repr__(self) -> str:
        if self.is_python_type():
            return f"DataType(python:{self._physical_dtype.__name__})"  # type: ignore[union-attr]
        return f"DataType({'arrow' if self.is_arrow_type() else 'numpy'}:{self._physical_dtype})"

    def __eq__(self, other: object) -> builtins.bool:
        if not isinstance(other, DataType):
            return False
        # numpy's types are equal to classes of Python.
        kinds = type(self._physical_dtype), type(other._physical_dtype)
        return kinds[0] is kinds[1] and builtins.bool(self._physical_dtype == other._physical_dtype)

    def __hash__(self) -> int:
        return hash((type(self._physical_dtype), self._physical_dtype))

    @classmethod
    def from_arrow(cls, arrow_type: pyarrow.DataType) -> DataType:
        """A type of pyarrow."""
        return cls(arrow_type)

    @classmethod
    def from_numpy(cls, numpy_dtype: Any) -> DataType:
        """A type of numpy, or its name."""
        return cls(numpy.dtype(numpy_dtype))

    @classmethod
    def infer_dtype(cls, value: Any) -> DataType:
        """The type of a value.

        >>> DataType.infer_dtype("a"), DataType.infer_dtype(numpy.int8(1))
        (DataType(arrow:string), DataType(numpy:int8))
        """
        if isinstance(value, (numpy.ndarray, numpy.generic)):
            return cls(value.dtype)
        try:
            return cls(pyarrow.array([value]).type)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            return cls(type(value))

    @classmethod
    def int8(cls) -> DataType:
        """An integer of 8 bits."""
        return cls(pyarrow.int8())

    @classmethod
    def int16(cls) -> DataType:
        """An integer of 16 bits."""
        return cls(pyarrow.int16())

    @classmethod
    def int32(cls) -> DataType:
        """An integer of 32 bits."""
        return cls(pyarrow.int32())

    @classmethod
    def int64(cls) -> DataType:
        """An integer of 64 bits."""
        return cls(pyarrow.int64())

    @classmethod
    def uint8(cls) -> DataType:
        """An unsigned integer of 8 bits."""
        return cls(pyarrow.uint8())

    @classmethod
    def uint16(cls) -> DataType:
        """An unsigned integer of 16 bits."""
        return cls(pyarrow.uint16())

    @classmethod
    def uint32(cls) -> DataType:
        """An unsigned integer of 32 bits."""
        return cls(pyarrow.uint32())

    @classmethod
    def uint64(cls) -> DataType:
        """An unsigned integer of 64 bits."""
        return cls(pyarrow.uint64())

    @classmethod
    def float32(cls) -> DataType:
        """A float of 32 bits."""
        return cls(pyarrow.float32())

    @classmethod
    def float64(cls) -> DataType:
        """A float of 64 bits."""
        return cls(pyarrow.float64())

    @classmethod
    def string(cls) -> DataType:
        """Text."""
        return cls(pyarrow.string())

    @classmethod
    def bool(cls) -> DataType:
        """True or false."""
        return cls(pyarrow.bool_())

    @classmethod
    def binary(cls) -> DataType:
        """Bytes."""
        return cls(pyarrow.binary())

    @classmethod
    def list(cls, value_type: DataType) -> DataType:
        """Lists of values of a type."""
        return cls(pyarrow.list_(value_type.to_arrow_dtype()))

    @classmethod
    def large_list(cls, value_type: DataType) -> DataType:
        """Lists that a block may have more than two billion values of."""
        return cls(pyarrow.large_list(value_type.to_arrow_dtype()))

    @classmethod
    def fixed_size_list(cls, value_type: DataType, list_size: int) -> DataType:
        """Lists of one length."""
        return cls(pyarrow.list_(value_type.to_arrow_dtype(), list_size))

    @classmethod
    def struct(cls, fields: Sequence[tuple[str, DataType]]) -> DataType:
        """Dicts of fixed names.

        >>> DataType.struct([("x", DataType.int64())])
        DataType(arrow:struct<x: int64>)
        """
        return cls(pyarrow.struct([(name, kind.to_arrow_dtype()) for name, kind in fields]))

    @classmethod
    def map(cls, key_type: DataType, value_type: DataType) -> DataType:
        """Pairs of keys and values."""
        return cls(pyarrow.map_(key_type.to_arrow_dtype(), value_type.to_arrow_dtype()))

    @classmethod
    def tensor(cls, shape: tuple[int, ...], dtype: DataType) -> DataType:
        """Arrays of one shape."""
        return cls(pyarrow.fixed_shape_tensor(dtype.to_arrow_dtype(), shape))

    @classmethod
    def variable_shaped_tensor(cls, dtype: DataType, ndim: int = 2) -> DataType:
        """Arrays of so many dimensions, whose shapes may differ."""
        from ._tensors import VariableShapeTensorType

        return cls(VariableShapeTensorType(dtype.to_arrow_dtype(), ndim))

    @classmethod
    def temporal(cls, temporal_type: str, unit: str | None = None, tz: str | None = None) -> DataType:
        """Moments, dates, times of day or durations.

        Args:
            temporal_type: ``"timestamp"``, ``"date32"``, ``"date64"``, ``"time32"``, ``"time64"`` or ``"duration"``.
            unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; by default ``"s"`` for ``"time32"``, and else ``"us"``.
            tz: the zone of moments.

        >>> DataType.temporal("timestamp", tz="UTC")
        DataType(arrow:timestamp[us, tz=UTC])
        """
        kind = temporal_type.lower()
        if kind == "timestamp":
            return cls(pyarrow.timestamp(unit or "us", tz))  # type: ignore[arg-type]
        if kind in ("date32", "date64"):
            return cls(pyarrow.date32() if kind == "date32" else pyarrow.date64())
        made = {"time32": pyarrow.time32, "time64": pyarrow.time64, "duration": pyarrow.duration}
        if kind not in made:
            raise ValueError(
                f"DataType.temporal() takes 'timestamp', 'date32', 'date64', 'time32', 'time64' or 'duration', not {temporal_type!r}"
            )
        return cls(made[kind](unit or ("s" if kind == "time32" else "us")))  # type: ignore[operator]

    def to_arrow_dtype(self, values: Sequence[Any] | None = None) -> pyarrow.DataType:
        """The type of pyarrow.

        Args:
            values: what says it where the type is a class of Python that others than numbers, texts and times have.

        >>> DataType(float).to_arrow_dtype(), DataType(object).to_arrow_dtype([[1]])
        (DataType(double), ListType(list<item: int64>))
        """
        if isinstance(self._physical_dtype, pyarrow.DataType):
            return self._physical_dtype
        if isinstance(self._physical_dtype, numpy.dtype):
            return pyarrow.from_numpy_dtype(self._physical_dtype)
        from ._declared import python_type_of

        known = python_type_of(self._physical_dtype)
        if known is None and not values:
            raise ValueError(f"{self!r}: values say which type of columns this is: to_arrow_dtype(values)")
        return pyarrow.type_for_alias(known) if known is not None else pyarrow.array(values).type

    def to_numpy_dtype(self) -> numpy.dtype:
        """The type of numpy; ``object`` where it has none.

        >>> DataType.int8().to_numpy_dtype(), DataType.string().to_numpy_dtype()
        (dtype('int8'), dtype('O'))
        """
        if isinstance(self._physical_dtype, numpy.dtype):
            return self._physical_dtype
        if isinstance(self._physical_dtype, pyarrow.DataType):
            try:
                return numpy.dtype(self._physical_dtype.to_pandas_dtype())
            except (TypeError, ValueError, NotImplementedError):
                return numpy.dtype(object)
        return numpy.dtype(object)

    def to_python_type(self) -> type:
        """The class of Python, if it is one."""
        if not isinstance(self._physical_dtype, type):
            raise ValueError(f"{self!r} is no class of Python: to_arrow_dtype() and to_numpy_dtype() tell what it is")  # noqa: TRY004 - as in Ray
        return self._physical_dtype

    def is_arrow_type(self) -> builtins.bool:
        """Whether it is a type of pyarrow."""
        return isinstance(self._physical_dtype, pyarrow.DataType)

    def is_numpy_type(self) -> builtins.bool:
        """Whether it is a type of numpy."""
        return isinstance(self._physical_dtype, numpy.dtype)

    def is_python_type(self) -> builtins.bool:
        """Whether it is a class of Python."""
        return isinstance(self._physical_dtype, type)

    def is_list_type(self) -> builtins.bool:
        """Whether values are lists."""
        tests = (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
        return self._is(*tests)

    def is_tensor_type(self) -> builtins.bool:
        """Whether values are arrays."""
        from ._tensors import tensor_of

        return isinstance(self._physical_dtype, pyarrow.DataType) and tensor_of(self._physical_dtype) is not None

    def is_struct_type(self) -> builtins.bool:
        """Whether values are dicts of fixed names."""
        return self._is(types.is_struct)

    def is_map_type(self) -> builtins.bool:
        """Whether values are pairs of keys and values."""
        return self._is(types.is_map)

    def is_nested_type(self) -> builtins.bool:
        """Whether values have values in them."""
        return self._is(types.is_nested)

    def is_null_type(self) -> builtins.bool:
        """Whether nothing but nulls is there."""
        return self._is(types.is_null)

    def is_boolean_type(self) -> builtins.bool:
        """Whether values are true or false."""
        return self._is(types.is_boolean)

    def is_integer_type(self) -> builtins.bool:
        """Whether values are whole numbers."""
        return self._is(types.is_integer)

    def is_floating_type(self) -> builtins.bool:
        """Whether values are floats."""
        return self._is(types.is_floating)

    def is_numerical_type(self) -> builtins.bool:
        """Whether values are numbers.

        >>> DataType.int8().is_numerical_type(), DataType(float).is_numerical_type(), DataType.bool().is_numerical_type()
        (True, True, False)
        """
        return self._is(types.is_integer, types.is_floating, types.is_decimal)

    def is_string_type(self) -> builtins.bool:
        """Whether values are text."""
        return self._is(types.is_string, types.is_large_string, types.is_string_view)

    def is_binary_type(self) -> builtins.bool:
        """Whether values are bytes."""
        return self._is(types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)

    def is_temporal_type(self) -> builtins.bool:
        """Whether values are moments, dates, times of day or durations."""
        return self._is(types.is_temporal)

    def _is(self, *tests: Any) -> builtins.bool:
        try:
            kind = self.to_arrow_dtype()
        except (ValueError, pyarrow.ArrowException):
            return False
        return any(test(kind) for test in tests)
