"""CSV, as pyarrow writes it."""

from __future__ import annotations

from typing import Any

import pyarrow
from pyarrow import csv

from .compressed import written
from .lines import ending_of
from .writing import FileSink

#: What options say, but for the line of names: they cannot be pickled. Older pyarrow knows fewer.
_FIELDS = ("batch_size", "delimiter", "quoting_style", "eol", "null_string", "quoting_header")


class CSVSink(FileSink):
    """A line of names, and a line per row."""

    function = "write_csv"

    def __init__(self, write_options: csv.WriteOptions | None, compression: str | None) -> None:
        options = write_options or csv.WriteOptions()
        self._options = {name: getattr(options, name) for name in _FIELDS if hasattr(options, name)}
        self._has_header = options.include_header
        self._compression = compression

    def extension(self) -> str:
        return "csv" + ending_of(self._compression)

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        for field in schema:
            if pyarrow.types.is_nested(field.type) or isinstance(field.type, pyarrow.BaseExtensionType):
                raise ValueError(
                    f"write_csv(): the column {field.name!r} is {field.type}, for which CSV has no place; write_json() and "
                    "write_parquet() have one"
                )
        return _File(path, self._options, self._compression, has_header=self._has_header)


class _File:
    def __init__(self, path: str, options: dict[str, Any], compression: str | None, *, has_header: bool) -> None:
        self._stream = written(path, compression)
        self._options = options
        self._has_header = has_header

    def write(self, batch: pyarrow.RecordBatch) -> None:
        csv.write_csv(batch, self._stream, csv.WriteOptions(include_header=self._has_header, **self._options))
        self._has_header = False

    def close(self) -> None:
        self._stream.close()
