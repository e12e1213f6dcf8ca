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
        # A file has one dictionary for each column, to which later batches may add.
        options = pyarrow.ipc.IpcWriteOptions(compression=self._compression, emit_dictionary_deltas=True)
        return _File(path, schema, options)

    def is_alike(self, schema: pyarrow.Schema, other: pyarrow.Schema) -> bool:
        return schema.equals(other)


class _File:
    def __init__(self, path: str, schema: pyarrow.Schema, options: Any) -> None:
        self._file = pyarrow.OSFile(path, "wb")
        self._writer = pyarrow.ipc.new_file(self._file, schema, options=options)
        #: Of columns that have one, as the file has it so far.
        self._dictionaries: dict[int, pyarrow.Array] = {}

    def write(self, batch: pyarrow.RecordBatch) -> None:
        columns = [self._with_dictionary_of_the_file(at, column) for at, column in enumerate(batch.columns)]
        try:
            self._writer.write_batch(pyarrow.RecordBatch.from_arrays(columns, schema=batch.schema))
        except pyarrow.ArrowInvalid as error:
            if "ictionary" not in str(error):
                raise
            raise ValueError(
                "write_arrow(): a dictionary inside of another column differs between batches, and a file has room for one: cast that "
                f"column to the type of its values before ({error})"
            ) from error

    def _with_dictionary_of_the_file(self, at: int, column: pyarrow.Array) -> pyarrow.Array:
        if not pyarrow.types.is_dictionary(column.type):
            return column
        known = self._dictionaries.get(at)
        if known is not None and not column.dictionary.equals(known):
            nothing = pyarrow.DictionaryArray.from_arrays(pyarrow.array([], column.type.index_type), known)
            column = pyarrow.chunked_array([nothing, column]).unify_dictionaries().chunk(1)
        self._dictionaries[at] = column.dictionary
        return column

    def close(self) -> None:
        self._writer.close()
        self._file.close()
