"""TFRecords of ``tf.train.Example``: a row per record. Read without TensorFlow.

A record is a length (8 bytes), a checksum of it (4), the message, and a checksum of that (4). A message has one field, the
features: a map from names to lists of bytes, floats or whole numbers.

>>> example(bytes.fromhex("0a0c0a0a0a017812050a030a0161"))
{'x': [b'a']}
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from .crc32c import masked_crc
from .reading import Format, Part

_BLOCK_BYTES = 8 << 20
_BYTES_LIST, _FLOAT_LIST, _INT_LIST = 1, 2, 3


class TFRecords(Format):
    """Columns of the features: of values where no record of a block has several, else of lists."""

    function = "read_tfrecords"

    def read(self, part: Part) -> Iterator[Any]:
        # What one record of a file has several of, all later ones have lists of.
        lists: set[str] = set()
        with part.open() as file:
            rows: list[dict[str, list[Any]]] = []
            size = 0
            for message in _records(file, part):
                try:
                    rows.append(example(message))
                except (IndexError, struct.error, UnicodeDecodeError) as error:
                    raise ValueError(f"read {part.path}: a record is no tf.train.Example: {error!r}") from None
                size += len(message)
                if size >= _BLOCK_BYTES:
                    yield _columns(rows, lists)
                    rows, size = [], 0
            if rows:
                yield _columns(rows, lists)


def _records(file: Any, part: Part) -> Iterator[bytes]:
    while head := file.read(12):
        if len(head) < 12:
            raise ValueError(f"read {part.path}: it is cut off, or no TFRecord file")
        (length,) = struct.unpack("<Q", head[:8])
        if masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
            raise ValueError(f"read {part.path}: it is damaged, or no TFRecord file: a checksum is wrong")
        message = file.read(length)
        if len(message) < length or len(file.read(4)) < 4:
            raise ValueError(f"read {part.path}: it is cut off")
        yield message


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and contents of the fields of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(data, place)
        else:
            length = {1: 8, 5: 4}[kind] if kind in (1, 5) else len(data) + 1
        if place + length > len(data):
            raise IndexError("a field goes beyond the end of its message")
        yield key >> 3, data[place : place + length]
        place += length


def example(message: bytes) -> dict[str, list[Any]]:
    """The features of a ``tf.train.Example``, but for those without values."""
    features: dict[str, list[Any]] = {}
    for _, all_features in _fields(message):
        for _, entry in _fields(all_features):
            pair = dict(_fields(entry))
            for kind, values in _fields(pair.get(2, b"")):
                if found := _values(kind, values):
                    features[pair[1].decode()] = found
    return features


def _values(kind: int, data: bytes) -> list[Any]:
    values: list[Any] = []
    for _, value in _fields(data):
        if kind == _BYTES_LIST:
            values.append(value)
        elif kind == _FLOAT_LIST:
            values.extend(struct.unpack(f"<{len(value) // 4}f", value))
        elif isinstance(value, int):
            values.append(_signed(value))
        else:
            place = 0
            while place < len(value):
                number, place = _varint(value, place)
                values.append(_signed(number))
    return values


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _columns(rows: list[dict[str, list[Any]]], lists: set[str]) -> Any:
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    lists.update(name for name in names if any(len(row.get(name, ())) > 1 for row in rows))
    columns: dict[str, Any] = {}
    for name in names:
        column = [row.get(name) for row in rows]
        kind = next(type(values[0]) for values in column if values)
        item = {bytes: pyarrow.binary(), float: pyarrow.float32(), int: pyarrow.int64()}[kind]
        if name in lists:
            columns[name] = pyarrow.array(column, pyarrow.list_(item))
        else:
            columns[name] = pyarrow.array([values[0] if values else None for values in column], item)
    return pyarrow.RecordBatch.from_pydict(columns)
