"""TFRecords of ``tf.train.Example``: a record per row. Written without TensorFlow.

What a record is, is told in `tfrecords`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy
import pyarrow
from pyarrow import types

from aktis.data import _batches

from .compressed import written
from .crc32c import masked_crc, masked_crcs
from .lines import ending_of
from .tfrecords import _BYTES_LIST, _FLOAT_LIST, _INT_LIST
from .writing import FileSink


class TFRecordsSink(FileSink):
    """A message per row."""

    function = "write_tfrecords"

    def __init__(self, compression: str | None) -> None:
        self._compression = compression

    def extension(self) -> str:
        return "tfrecords" + ending_of(self._compression)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, schema, self._compression)

    def is_alike(self, schema: pyarrow.Schema, other: pyarrow.Schema) -> bool:
        return schema.equals(other)


class _File:
    def __init__(self, path: str, schema: pyarrow.Schema, compression: str | None) -> None:
        self._features = {field.name: _feature_of(field) for field in schema}
        self._stream = written(path, compression)

    def write(self, batch: pyarrow.RecordBatch) -> None:
        messages = [self._message(row) for row in _batches.rows_of(batch)]
        for message, checksum in zip(messages, masked_crcs(messages), strict=True):
            length = struct.pack("<Q", len(message))
            self._stream.write(length + struct.pack("<I", masked_crc(length)) + message + struct.pack("<I", checksum))

    def _message(self, row: dict[str, Any]) -> bytes:
        features = b"".join(
            _field(1, _field(1, name.encode()) + _field(2, feature(row[name])))
            for name, feature in self._features.items()
        )
        return _field(1, features)

    def close(self) -> None:
        self._stream.close()


def _feature_of(field: pyarrow.Field) -> Callable[[Any], bytes]:
    """What makes a feature of a value of a column; ``None`` is a feature without values."""
    kind = field.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    inner = kind.value_type if is_list else kind
    if types.is_integer(inner) or types.is_boolean(inner):
        number, packed = _INT_LIST, _ints
    elif types.is_floating(inner):
        number, packed = _FLOAT_LIST, _floats
    elif (
        types.is_string(inner)
        or types.is_large_string(inner)
        or types.is_binary(inner)
        or types.is_large_binary(inner)
        or types.is_null(inner)
    ):
        number, packed = _BYTES_LIST, _texts
    else:
        raise ValueError(
            f"write_tfrecords(): the column {field.name!r} is of type {kind}; a feature has whole numbers, floats, text or bytes, or lists of one of "
            "these: make bytes of it in map_batches()"
        )

    def feature(value: Any) -> bytes:
        values = [] if value is None else value if is_list else [value]
        if any(inner is None for inner in values):
            raise ValueError(
                f"write_tfrecords(): a list of the column {field.name!r} has null in it, and features have no word for it"
            )
        return _field(number, packed(values)) if len(values) else b""

    return feature


def _ints(values: Iterable[Any]) -> bytes:
    return _field(1, b"".join(_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values))


def _floats(values: Any) -> bytes:
    return _field(1, numpy.asarray(values, "<f4").tobytes())


def _texts(values: Iterable[Any]) -> bytes:
    return b"".join(_field(1, value.encode() if isinstance(value, str) else bytes(value)) for value in values)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
