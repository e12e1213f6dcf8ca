"""Webdatasets: a row is the members of a tar file that have its key, one per column."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from typing import Any

import numpy
import pyarrow

from aktis.data import _batches
from aktis.data._packages import needs

from .compressed import written
from .lines import ending_of
from .webdataset import _IMAGES
from .writing import FileSink

Encoder = Callable[[dict[str, Any]], dict[str, Any]]


class WebDatasetSink(FileSink):
    """A member per value."""

    function = "write_webdataset"

    def __init__(self, encoders: list[Encoder], compression: str | None) -> None:
        self._encoders = encoders
        self._compression = compression

    def extension(self) -> str:
        return "tar" + ending_of(self._compression)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, self._encoders, self._compression)


class _File:
    def __init__(self, path: str, encoders: list[Encoder], compression: str | None) -> None:
        self._stream = written(path, compression)
        self._archive = tarfile.open(fileobj=self._stream, mode="w|")  # noqa: SIM115 - closed by close()
        self._encoders = encoders
        # Without the number of the attempt, which changes where a worker dies.
        self._stem = os.path.basename(path).partition("-")[2].partition(".")[0]
        self._rows = 0
        self._last: str | None = None

    def write(self, batch: pyarrow.RecordBatch) -> None:
        for row in _batches.rows_of(batch):
            sample = dict(row)
            for encode in self._encoders:
                sample = encode(sample)
            key = self._key(sample.get("__key__"))
            for name, value in sample.items():
                if value is not None and not name.startswith("__"):
                    self._add(f"{key}.{name}", value)
            self._rows += 1

    def _key(self, given: Any) -> str:
        key = f"{self._stem}_{self._rows:06}" if given is None else str(given)
        if "." in key.rpartition("/")[2] or not key.rpartition("/")[2]:
            raise ValueError(
                f"write_webdataset(): {key!r} is no key: readers take what follows the first point for a column"
            )
        if key == self._last:
            raise ValueError(f"write_webdataset(): two rows have the key {key!r}, and would be one")
        self._last = key
        return key

    def _add(self, name: str, value: Any) -> None:
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, (bytes, bytearray)):
            column = name.rpartition("/")[2].partition(".")[2]
            raise TypeError(
                f"write_webdataset(): {column!r} has values of type {type(value).__name__}; name it by what it is (cls, json, npy, png, ...), or give "
                "an encoder that makes bytes of it"
            )
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        self._archive.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        self._archive.close()
        self._stream.close()


def encoded(sample: dict[str, Any]) -> dict[str, Any]:
    """The values as what the names of their columns say: text, numbers, images, JSON, arrays; others stay.

    >>> encoded({"__key__": "a", "txt": "one", "cls": 3, "json": [1], "bin": b"x"})
    {'__key__': 'a', 'txt': b'one', 'cls': b'3', 'json': b'[1]', 'bin': b'x'}
    """
    return {
        name: value if name.startswith("__") or value is None else _data(name.rpartition(".")[2], value)
        for name, value in sample.items()
    }


def _data(ending: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    if ending in ("txt", "text"):
        return str(value).encode()
    if ending in ("cls", "cls2"):
        return str(int(value)).encode()
    if ending == "json":
        return json.dumps(value, default=lambda inner: inner.tolist()).encode()
    if ending == "mp":
        return needs("write_webdataset", "msgpack", "msgpack").packb(value, default=lambda inner: inner.tolist())
    if ending == "npy":
        file = io.BytesIO()
        numpy.save(file, numpy.asarray(value), allow_pickle=False)
        return file.getvalue()
    if ending in _IMAGES:
        from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there

        file = io.BytesIO()
        kind = {"jpg": "jpeg", "pgm": "ppm", "pbm": "ppm", "pnm": "ppm"}.get(ending, ending)
        Image.fromarray(numpy.asarray(value)).save(file, format=kind)
        return file.getvalue()
    return value
