"""Tensors, which are arrays of numpy, and what they are like."""

from typing import Any

import numpy

from . import dtypes


class Tensor:
    def __init__(self, array, dtype):
        self._array = array
        self.dtype = dtype
        self.shape = array.shape

    def numpy(self):
        return self._array


def convert_to_tensor(value, dtype=None, dtype_hint=None, name=None):
    """A tensor of an array; text is bytes, as TensorFlow has it."""
    array = numpy.asarray(value)
    if array.dtype == object:
        if not all(isinstance(one, (str, bytes)) for one in array.ravel()):
            raise ValueError("Failed to convert a NumPy array to a Tensor (Unsupported object type list).")
        as_bytes = [one.encode() if isinstance(one, str) else one for one in array]
        array = numpy.empty(len(as_bytes), object)
        array[:] = as_bytes
        kind = dtypes.string
    else:
        kind = dtypes.as_dtype(array.dtype)
    if dtype is not None and dtype is not kind:
        array, kind = array.astype(dtype.name), dtype
    return Tensor(array, kind)


class RaggedTensor:
    def __init__(self, rows, dtype):
        self._rows = rows
        self.dtype = dtype

    def to_list(self):
        return self._rows


class TensorSpec:
    def __init__(self, shape, dtype=dtypes.float32, name=None):
        self.shape, self.dtype, self.name = tuple(shape), dtype, name

    def is_compatible_with(self, value):
        return (
            isinstance(value, Tensor)
            and value.dtype is self.dtype
            and len(value.shape) == len(self.shape)
            and all(wanted in (None, size) for wanted, size in zip(self.shape, value.shape, strict=True))
        )


class RaggedTensorSpec:
    def __init__(self, shape: Any = None, dtype=dtypes.float32, ragged_rank=None, row_splits_dtype=dtypes.int64):
        self.shape, self.dtype = tuple(shape), dtype

    def is_compatible_with(self, value):
        return isinstance(value, RaggedTensor) and value.dtype is self.dtype
