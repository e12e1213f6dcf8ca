"""JSON lines: an object per row.

Numbers are written with all of their digits, dates and times as ISO 8601, what is no number (NaN) as null: as
:func:`aktis.data.read_json` and others read them.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

import numpy
import pyarrow

from aktis.data import _batches

from .compressed import written
from .lines import ending_of
from .writing import FileSink


class JSONSink(FileSink):
    """A line per row."""

    function = "write_json"

    def __init__(self, compression: str | None) -> None:
        self._compression = compression

    def extension(self) -> str:
        return "json" + ending_of(self._compression)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, self._compression)


class _File:
    def __init__(self, path: str, compression: str | None) -> None:
        self._stream = written(path, compression)

    def write(self, batch: pyarrow.RecordBatch) -> None:
        rows = _batches.rows_of(batch)
        try:
            lines = [*map(_ENCODER.encode, rows), ""]
        except ValueError:  # NaN among them
            lines = [*map(_ENCODER.encode, map(_without_nan, rows)), ""]
        self._stream.write("\n".join(lines).encode())

    def close(self) -> None:
        self._stream.close()


def _plain(value: Any) -> Any:
    """A value that JSON has no word for, as one that it has."""
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise TypeError(
                "write_json(): there are bytes that are no text; make text of them, base64.b64encode(x).decode()"
            ) from None
    raise TypeError(f"write_json(): JSON has no word for {type(value).__name__}; make a number or text of it")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, numpy.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return _without_nan(value.item()) if isinstance(value, numpy.generic) else value


_ENCODER = json.JSONEncoder(default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
