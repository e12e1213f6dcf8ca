"""Numbers as they lie in memory, from Arrow to numpy and back.

pyarrow does the same, and imports pandas for it: a quarter of a second and 40 MB in every process, the driver and each worker.
"""

from __future__ import annotations

import numpy
import pyarrow
from pyarrow import types


def view(column: pyarrow.Array) -> numpy.ndarray:
    """The numbers of a column without nulls, where they lie; whether something is so, which numpy has a byte for and Arrow a bit.

    >>> view(pyarrow.array([1, 2, 3]).slice(1)).tolist()
    [2, 3]
    """
    kind = column.type
    if len(column) > 0 and types.is_boolean(kind):
        first, begin = divmod(column.offset, 8)
        bits = numpy.frombuffer(column.buffers()[1], numpy.uint8, offset=first)
        return numpy.unpackbits(bits, count=begin + len(column), bitorder="little")[begin:].astype(bool)
    if len(column) == 0 or not (types.is_integer(kind) or types.is_floating(kind)):
        return column.to_numpy(zero_copy_only=False)
    dtype = numpy.dtype(kind.to_pandas_dtype())
    # Nobody may write there, whoever has made it.
    memory = memoryview(column.buffers()[1]).toreadonly()
    return numpy.frombuffer(memory, dtype, count=len(column), offset=column.offset * dtype.itemsize)


def to_arrow(values: numpy.ndarray) -> pyarrow.Array:
    """An array of one dimension as a column.

    >>> to_arrow(numpy.array([0.5, 1.5])).to_pylist()
    [0.5, 1.5]
    >>> to_arrow(numpy.array([True, False])).to_pylist()
    [True, False]
    """
    dtype = values.dtype
    if dtype.kind == "b":
        kind, memory = pyarrow.bool_(), numpy.packbits(values, bitorder="little")
    elif dtype.kind in "iuf" and dtype.itemsize <= 8 and dtype.isnative:
        kind, memory = pyarrow.from_numpy_dtype(dtype), numpy.ascontiguousarray(values)
    else:
        return pyarrow.array(values)
    return pyarrow.Array.from_buffers(kind, len(values), [None, pyarrow.py_buffer(memory)], null_count=0)
