"""Files as a sink of the user's writes them, see :mod:`aktis.data.datasource`."""

from __future__ import annotations

from typing import Any

import pyarrow
from pyarrow import fs

from aktis.data import _batches
from aktis.data.block import BlockAccessor

from .writing import FileSink


class OwnSink(FileSink):
    """A file for each row, or for many."""

    function = "write_datasink"

    def __init__(self, datasink: Any) -> None:
        self._datasink = datasink

    def extension(self) -> str:
        return self._datasink.file_format or ""

    def is_row_a_file(self) -> bool:
        return bool(self._datasink.is_row_a_file)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, self._datasink)


class _File:
    """All rows are at hand before the file is written."""

    def __init__(self, path: str, datasink: Any) -> None:
        self._path = path
        self._datasink = datasink
        self._batches: list[pyarrow.RecordBatch] = []

    def write(self, batch: pyarrow.RecordBatch) -> None:
        self._batches.append(batch)

    def close(self) -> None:
        table = pyarrow.Table.from_batches(self._batches)
        with fs.LocalFileSystem().open_output_stream(self._path, **self._datasink.open_stream_args) as file:
            if self._datasink.is_row_a_file:
                self._datasink.write_row_to_file(_batches.rows_of(_batches._one_batch(table))[0], file)
            else:
                self._datasink.write_block_to_file(BlockAccessor.for_block(table), file)
