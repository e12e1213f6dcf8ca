"""Files of Arrow's IPC format, which are Feather files (version 2) as well."""

from __future__ import annotations

from typing import Any

import pyarrow

from .writing import FileSink


class ArrowSink(FileSink):
    """Rows of one schema each file."""

    function = "write_arrow"

    def __init__(self, compression: str | None = None) -> None:
        self._compression = compression

    def extension(self) -> str:
        return "arrow"

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        options = pyarrow.ipc.IpcWriteOptions(compression=self._compression, unify_dictionaries=True)
        return _File(path, schema, options)

    def is_alike(self, schema: pyarrow.Schema, other: pyarrow.Schema) -> bool:
        return schema.equals(other)


class _File:
    def __init__(self, path: str, schema: pyarrow.Schema, options: Any) -> None:
        self._file = pyarrow.OSFile(path, "wb")
        self._writer = pyarrow.ipc.new_file(self._file, schema, options=options)

    def write(self, batch: pyarrow.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
        self._file.close()
