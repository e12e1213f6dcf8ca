"""Files as they are: a row per file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pyarrow

from .reading import Format, Part

#: A column of bytes counts them with 32 bits.
_MOST_BYTES = (1 << 31) - 1


class Binary(Format):
    """The bytes of files in the column ``bytes``."""

    function = "read_binary_files"
    rows_per_file = 1

    def schema(self) -> pyarrow.Schema:
        return pyarrow.schema({"bytes": pyarrow.binary()})

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            data = file.read_buffer()
        if data.size > _MOST_BYTES:
            raise ValueError(
                f"read {part.path}: it has {data.size} bytes, and a value has 2 GiB at most; read it in a function"
            )
        ends = pyarrow.py_buffer(numpy.array([0, data.size], numpy.int32))
        yield {"bytes": pyarrow.Array.from_buffers(pyarrow.binary(), 1, [None, ends, data])}
