"""Images that lie in a column as they lie in files, as Pillow decodes them, for models that want pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pyarrow

from aktis.data._from_python import to_column


def decoded(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The pixels of a batch of one column, with its name: of bytes, or of structs of bytes and a path, as Hugging Face's ``datasets`` has images."""
    try:
        from . import images
    except ImportError as error:
        raise ImportError(
            "images that are bytes are decoded by Pillow: pip install pillow, where the workers are"
        ) from error
    pixels: list[numpy.ndarray[Any, Any] | None] = []
    for row, value in enumerate(batch.column(0).to_pylist()):
        try:
            data = _bytes(value)
            pixels.append(None if data is None else images.upright(data))
        except images.BROKEN as error:
            raise ValueError(
                f"row {row} of the batch is broken, or no image that Pillow reads ({images.why(error)})"
            ) from None
    column = to_column(pixels)
    if column.null_count == len(column):
        column = pyarrow.nulls(len(column), to_column([numpy.zeros((1, 1, 3), "uint8")]).type)
    return pyarrow.RecordBatch.from_arrays([column], names=batch.schema.names)


def _bytes(value: Any) -> bytes | None:
    if not isinstance(value, dict):
        return value
    if value["bytes"] is not None or value.get("path") is None:
        return value["bytes"]
    return Path(value["path"]).read_bytes()
