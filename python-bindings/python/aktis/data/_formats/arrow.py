"""Arrow's IPC format, as files (which are Feather files of version 2) and as streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow

from .reading import Format, Part

_FILE = b"ARROW1"
_OLD_FEATHER = b"FEA1"


class Arrow(Format):
    """The columns of the files, batch by batch."""

    function = "read_arrow"

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as plain:
            file = pyarrow.BufferReader(plain.read()) if part.compression else plain
            begin = file.read(len(_FILE)) if file.size() else b""
            file.seek(0)
            if begin.startswith(_OLD_FEATHER):
                raise ValueError(
                    "it is a Feather file of version 1: read it with pyarrow.feather.read_table(), and write it again"
                )
            if begin == _FILE:
                batches = pyarrow.ipc.open_file(file)
                for number in range(batches.num_record_batches):
                    yield batches.get_batch(number)
            else:
                batches = pyarrow.ipc.open_stream(file)
                yield from batches
            if not batches.stats.num_record_batches:
                # The columns are known all the same.
                yield batches.schema.empty_table()
