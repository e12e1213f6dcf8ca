"""Writing files in a worker: rows of an input become files in the hidden folder of their job.

Names begin with what the native sink says, so that no two inputs and no two attempts at one write the same file; when the job is
whole, the files lose the number of their attempt and become visible (SINK-1).
"""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import Any, ClassVar

import pyarrow


class FileSink:
    """How rows become files of one format."""

    #: The method of the user.
    function: ClassVar[str]

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        """Begins a file: something with ``write(batch)`` and ``close()``, and ``abandon()`` if closing would write."""
        raise NotImplementedError

    def extension(self) -> str:
        """What the files' names end in; empty: in nothing."""
        raise NotImplementedError

    def is_alike(self, schema: pyarrow.Schema, other: pyarrow.Schema) -> bool:
        """Whether rows of both go into one file."""
        return schema.names == other.names

    def is_row_a_file(self) -> bool:
        """Whether each row has a file of its own."""
        return False


def open_writer(definition: bytes, folder: str, stem: str) -> Writer:
    """What the native sink of an input writes with."""
    from aktis._values import definition as _definition

    _, data, most_rows = pickle.loads(definition)
    return Writer(_definition.load(data), folder, stem, most_rows)


def definition_of(sink: FileSink, most_rows: int | None) -> bytes:
    """The sink as it travels to workers, with the most rows of a file."""
    from aktis._values import definition as _definition

    return pickle.dumps((sink.function, _definition._dump(sink, object()).data, most_rows), protocol=5)


class Writer:
    """The files of one input: one, or as many as rows have different columns or their number needs; or one per row."""

    def __init__(self, sink: FileSink, folder: str, stem: str, most_rows: int | None = None) -> None:
        self.name = f"{sink.function}()"
        self._sink = sink
        self._folder = folder
        self._stem = stem
        self._most_rows = most_rows
        self._files: list[tuple[str, int]] = []
        self._open: Any = None
        self._schema: Any = None
        self._rows = 0

    def write(self, batch: pyarrow.RecordBatch) -> None:
        """Takes rows."""
        most = 1 if self._sink.is_row_a_file() else self._most_rows
        if self._open is not None and not self._sink.is_alike(self._schema, batch.schema):
            self._close()
        if most is None or (batch.num_rows == 0 and not self._sink.is_row_a_file()):
            self._add(batch)
            return
        first = 0
        while first < batch.num_rows:
            room = most - self._rows
            self._add(batch.slice(first, room))
            first += room
            if self._rows >= most:
                self._close()

    def _add(self, batch: pyarrow.RecordBatch) -> None:
        if self._open is None:
            self._schema = batch.schema
            if not self._schema.names and batch.num_rows:
                raise ValueError(f"{self.name}: there are rows without columns; keep at least one column")
            path = os.path.join(self._folder, self._file_name())
            self._open = self._sink.open(path, batch.schema)
        self._open.write(batch)
        self._rows += batch.num_rows

    def _file_name(self) -> str:
        extension = self._sink.extension()
        return f"{self._stem}_{len(self._files):06}" + (f".{extension}" if extension else "")

    def _close(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self._files.append((self._file_name(), self._rows))
        self._open, self._rows = None, 0

    def finish(self) -> list[tuple[str, int]]:
        """Makes the files whole: their names and rows."""
        self._close()
        return self._files

    def abandon(self) -> None:
        """Removes what was written."""
        names = [name for name, _ in self._files]
        if self._open is not None:
            names.append(self._file_name())
            with contextlib.suppress(OSError, ValueError):
                getattr(self._open, "abandon", self._open.close)()
        for name in names:
            # The driver removes the folder as well, and may have done so already.
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))
