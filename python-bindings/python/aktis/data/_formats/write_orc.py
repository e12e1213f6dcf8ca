"""ORC, as pyarrow writes it."""

from __future__ import annotations

import inspect
from typing import Any

import pyarrow
from pyarrow import orc

from .writing import FileSink


class ORCSink(FileSink):
    """Rows of one schema each file."""

    function = "write_orc"
    ARGUMENTS = tuple(inspect.signature(orc.ORCWriter).parameters)[1:]

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments

    def extension(self) -> str:
        return "orc"

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        return _File(path, schema, self._arguments)

    def is_alike(self, schema: pyarrow.Schema, other: pyarrow.Schema) -> bool:
        return schema.equals(other)


class _File:
    def __init__(self, path: str, schema: pyarrow.Schema, arguments: dict[str, Any]) -> None:
        self._writer = orc.ORCWriter(path, **arguments)
        self._writer.write(schema.empty_table())

    def write(self, batch: pyarrow.RecordBatch) -> None:
        self._writer.write(pyarrow.Table.from_batches([batch]))

    def close(self) -> None:
        self._writer.close()
