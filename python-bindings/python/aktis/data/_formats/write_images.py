"""Images, as Pillow encodes them: a file per row."""

from __future__ import annotations

from typing import Any

import numpy
import pyarrow
from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there

from aktis.data import _batches

from .writing import FileSink


class ImagesSink(FileSink):
    """The arrays of one column."""

    function = "write_images"

    def __init__(self, column: str, file_format: str) -> None:
        self._column = column
        self._format = file_format

    def extension(self) -> str:
        return self._format

    def is_row_a_file(self) -> bool:
        return True

    def open(self, path: str, schema: pyarrow.Schema) -> Any:
        if self._column not in schema.names:
            raise ValueError(
                f"write_images(): there is no column {self._column!r}; the columns are {', '.join(schema.names)}"
            )
        return _File(path, self._column, self._format)


class _File:
    def __init__(self, path: str, column: str, file_format: str) -> None:
        self._path, self._column, self._format = path, column, file_format

    def write(self, batch: pyarrow.RecordBatch) -> None:
        array = numpy.asarray(_batches.rows_of(batch)[0][self._column])
        try:
            image = Image.fromarray(array)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"write_images(): an array of {array.dtype} and shape {array.shape} is no image ({error}); give uint8 of height, width "
                "and 3 or 4 channels, or of height and width"
            ) from None
        with open(self._path, "xb") as file:
            image.save(file, format="jpeg" if self._format.lower() in ("jpg", "jpeg") else self._format)

    def close(self) -> None: ...
