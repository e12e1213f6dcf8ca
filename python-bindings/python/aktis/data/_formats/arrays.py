"""Numpy's files: a row per first index."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy

from .reading import Format, Part

_BLOCK_BYTES = 8 << 20


class Arrays(Format):
    """Rows of arrays in the column ``data``."""

    function = "read_numpy"

    def __init__(self, *, allow_pickle: bool) -> None:
        self._allow_pickle = allow_pickle

    def read(self, part: Part) -> Iterator[Any]:
        try:
            array = self._loaded(part)
        except EOFError as error:
            raise ValueError(f"read {part.path}: {error}; it is empty, or was cut off") from None
        except ValueError as error:
            if "Python objects" not in str(error):
                raise
            raise ValueError(
                f"read {part.path}: it holds objects of Python, which may run code; allow_pickle=True reads them from files "
                "that you trust"
            ) from None
        if not isinstance(array, numpy.ndarray):
            raise ValueError(f"read {part.path}: it holds several arrays by name; save each with numpy.save()")  # noqa: TRY004
        if array.ndim == 0:
            raise ValueError(f"read {part.path}: it is a single value, and rows are the first dimension of an array")
        rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // max(1, len(array))))
        for first in range(0, max(1, len(array)), rows):
            yield {"data": numpy.array(array[first : first + rows])}

    def _loaded(self, part: Part) -> Any:
        if part.store is None and part.compression is None and not self._allow_pickle:
            # Not all of it has to be in memory.
            return numpy.load(part.path, mmap_mode="r", allow_pickle=False)
        with part.open() as file:
            return numpy.load(io.BytesIO(file.read()), allow_pickle=self._allow_pickle)
