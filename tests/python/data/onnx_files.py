"""Small ONNX files, written without the package ``onnx``: messages of Protocol Buffers with the fields of ``onnx.proto``."""

from __future__ import annotations

import struct

import numpy

TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _part(field, data):
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def port(name, dtype, shape):
    """An input or output; of its axes numbers are fixed, texts names, None neither. ``shape`` None: the file does not say."""
    kind = _number(1, TYPES[dtype])
    if shape is not None:
        axes = [
            b"" if axis is None else _part(2, axis) if isinstance(axis, str) else _number(1, axis) for axis in shape
        ]
        kind += _part(2, b"".join(_part(1, axis) for axis in axes))
    return _part(1, name) + _part(2, _part(1, kind))


def weight(name, array, file=None):
    """A constant; ``file``: it lies in this one."""
    array = numpy.asarray(array)
    said = b"".join(_number(1, size) for size in array.shape) + _number(2, TYPES[str(array.dtype)]) + _part(8, name)
    if file is None:
        return said + _part(9, array.tobytes())
    return said + _part(13, _part(1, "location") + _part(2, file)) + _number(14, 1)


def node(kind, inputs, outputs, **attributes):
    """A node; attributes are whole numbers, floats or lists of whole numbers."""
    said = b"".join(_part(1, name) for name in inputs) + b"".join(_part(2, name) for name in outputs) + _part(4, kind)
    for name, value in attributes.items():
        if isinstance(value, float):
            attribute = _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
        elif isinstance(value, int):
            attribute = _number(3, value) + _number(20, 2)
        else:
            attribute = b"".join(_number(8, item) for item in value) + _number(20, 7)
        said += _part(5, _part(1, name) + attribute)
    return said


def write(path, nodes, inputs, outputs, weights=()):
    """Writes a model, and returns its path."""
    graph = (
        b"".join(_part(1, each) for each in nodes) + _part(2, "graph") + b"".join(_part(5, each) for each in weights)
    )
    graph += b"".join(_part(11, each) for each in inputs) + b"".join(_part(12, each) for each in outputs)
    path.write_bytes(_number(1, 8) + _part(8, _part(1, "") + _number(2, 17)) + _part(7, graph))
    return path
