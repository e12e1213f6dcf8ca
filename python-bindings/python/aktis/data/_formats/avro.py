"""Avro, as fastavro reads it: a row per record."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import fastavro  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports] - it need not be there

from aktis.data import _batches

from .reading import Format, Part

_BLOCK_ROWS = 4096


class Avro(Format):
    """Rows with the fields of the records."""

    function = "read_avro"

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            try:
                records = fastavro.reader(file)
                while rows := list(itertools.islice(records, _BLOCK_ROWS)):
                    yield _batches.rows_to_arrow(rows, "read_avro()")
            except (EOFError, fastavro.schema.SchemaParseException, KeyError, StopIteration) as error:
                raise ValueError(f"read {part.path}: it is no Avro file, or was cut off: {error!r}") from error
