"""Types of tensors."""

import numpy


class DType:
    """A type by its name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"tf.{self.name}"


_KNOWN = {
    name: DType(name) for name in ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64", "string")
}
bool, uint8, int32, int64 = _KNOWN["bool"], _KNOWN["uint8"], _KNOWN["int32"], _KNOWN["int64"]
float32, float64, string = _KNOWN["float32"], _KNOWN["float64"], _KNOWN["string"]


def as_dtype(type_value):
    """The type for one of numpy's."""
    if isinstance(type_value, DType):
        return type_value
    name = numpy.dtype(type_value).name
    if name not in _KNOWN:
        raise TypeError(f"Cannot convert the argument `type_value`: {type_value!r} to a TensorFlow DType.")
    return _KNOWN[name]
