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

from .lines import ending_of
from .tfrecords import _BYTES_LIST, _CRC, _FLOAT_LIST, _INT_LIST, _masked_crc
from .writing import FileSink

#: Checksums are made of pieces of so many bytes, all at once.
_PIECE_BYTES = 1024


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
        file = pyarrow.OSFile(path, "wb")
        self._stream = pyarrow.CompressedOutputStream(file, compression) if compression else file

    def write(self, batch: pyarrow.RecordBatch) -> None:
        messages = [self._message(row) for row in _batches.rows_of(batch)]
        for message, checksum in zip(messages, masked_crcs(messages), strict=True):
            length = struct.pack("<Q", len(message))
            self._stream.write(length + struct.pack("<I", _masked_crc(length)) + message + struct.pack("<I", checksum))

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


def masked_crcs(messages: list[bytes]) -> list[int]:
    """The checksums of messages. Pieces of all of them go through the table side by side: a byte at a time is too slow in Python.

    >>> masked_crcs([b"", b"123456789"]) == [_masked_crc(b""), _masked_crc(b"123456789")]
    True
    """
    table = numpy.array(_CRC, numpy.uint32)
    whole = [len(message) // _PIECE_BYTES for message in messages]
    pieces = numpy.frombuffer(
        b"".join(message[: count * _PIECE_BYTES] for message, count in zip(messages, whole, strict=True)), numpy.uint8
    ).reshape(-1, _PIECE_BYTES)
    registers = numpy.zeros(len(pieces), numpy.uint32)
    for column in numpy.ascontiguousarray(pieces.T):
        registers = (registers >> numpy.uint32(8)) ^ table[(registers ^ column) & numpy.uint32(0xFF)]
    found = iter(registers.tolist())
    checksums = []
    for message, count in zip(messages, whole, strict=True):
        crc = 0xFFFFFFFF
        for _ in range(count):
            # The table is linear: what came before goes through a piece of zeros.
            crc = _after_zeros(crc) ^ next(found)
        for byte in message[count * _PIECE_BYTES :]:
            crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
        crc ^= 0xFFFFFFFF
        checksums.append(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    return checksums


def _zeros_tables() -> list[list[int]]:
    """What becomes of each byte of a register behind a piece of zeros."""
    registers = numpy.arange(256, dtype=numpy.uint32)[None, :] << (8 * numpy.arange(4, dtype=numpy.uint32))[:, None]
    table = numpy.array(_CRC, numpy.uint32)
    for _ in range(_PIECE_BYTES):
        registers = (registers >> numpy.uint32(8)) ^ table[registers & numpy.uint32(0xFF)]
    return registers.tolist()


_ZEROS = _zeros_tables()


def _after_zeros(crc: int) -> int:
    return _ZEROS[0][crc & 0xFF] ^ _ZEROS[1][crc >> 8 & 0xFF] ^ _ZEROS[2][crc >> 16 & 0xFF] ^ _ZEROS[3][crc >> 24]
