"""Text: a row per line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import pyarrow

from .. import _plain_values
from . import lines
from .reading import Format, Part

_BLOCK_BYTES = 1 << 20
#: Encodings in which the byte of a line's end is nothing else, so that a file can be cut there before it is decoded.
_CUTTABLE = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252"})


class Text(Format):
    """Lines in the column ``text``."""

    function = "read_text"

    def __init__(self, encoding: str, *, drop_empty_lines: bool) -> None:
        self._encoding = codecs.lookup(encoding).name
        self._drops_empty = drop_empty_lines

    def schema(self) -> pyarrow.Schema:
        return pyarrow.schema({"text": pyarrow.string()})

    def has_parts(self, whole: Part) -> bool:
        return self._encoding in _CUTTABLE

    def read(self, part: Part) -> Iterator[Any]:
        stream, place = part.open_lines()
        if self._encoding in _CUTTABLE:
            blocks: Any = lines.blocks(stream, _BLOCK_BYTES)
        else:
            blocks = iter([stream.read()])
        with stream:
            for block in blocks:
                yield {"text": _plain_values.of_list(self._lines(block, part, place)).cast(pyarrow.string())}
                place += len(block)

    def _lines(self, block: bytes, part: Part, place: int) -> list[str]:
        try:
            found = block.decode(self._encoding).splitlines()
        except UnicodeDecodeError as error:
            line = block.count(b"\n", 0, error.start) + 1
            why = f"it is not {self._encoding}: {error.reason} 0x{block[error.start]:02x}; give encoding='latin-1', or what it is"
            raise part.broken(place, why, line) from None
        return [line for line in found if line.strip()] if self._drops_empty else found
