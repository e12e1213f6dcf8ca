"""Numpy's files: a column as an array per file."""

from __future__ import annotations

from typing import Any

import numpy
import pyarrow

from aktis.data import _batches

from .writing import FileSink


class ArraysSink(FileSink):
    """The rows of one column, by their first index."""

    function = "write_numpy"

    def __init__(self, column: str) -> None:
        self._column = column

    def extension(self) -> str:
        return "npy"

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        if self._column not in schema.names:
            raise ValueError(
                f"write_numpy(): there is no column {self._column!r}; the columns are {', '.join(schema.names)}"
            )
        return _File(path, self._column)


class _File:
    """All rows are at hand before the file is written: its first bytes say how many there are."""

    def __init__(self, path: str, column: str) -> None:
        self._path = path
        self._column = column
        self._arrays: list[Any] = []

    def write(self, batch: pyarrow.RecordBatch) -> None:
        array = _batches.from_arrow(batch, "numpy")[self._column]
        if array.dtype == object:
            raise ValueError(
                f"write_numpy(): the rows of {self._column!r} are no array of numbers of one shape; write_parquet() keeps them as they are"
            )
        self._arrays.append(array)

    def close(self) -> None:
        try:
            array = numpy.concatenate(self._arrays)
        except ValueError as error:
            raise ValueError(f"write_numpy(): the rows of {self._column!r} have different shapes: {error}") from None
        with open(self._path, "xb") as file:
            numpy.save(file, array, allow_pickle=False)
