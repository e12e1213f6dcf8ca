"""JSON: lines of objects, as pyarrow reads them, block by block; or a list of objects, or objects over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow
from pyarrow import json as arrow_json

from aktis.data import _batches, _one_schema

from . import lines
from .reading import FirstBlocks, Format, Part

#: How much of a file is looked at for whether there is an object in its first line.
_GLIMPSE_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


class JSON(Format):
    """Rows with the columns that objects have."""

    function = "read_json"

    def __init__(
        self,
        read_options: arrow_json.ReadOptions | None,
        parse_options: arrow_json.ParseOptions | None,
        *,
        is_lines: bool,
    ) -> None:
        self._block_bytes = lines.block_bytes_of("read_json", read_options or arrow_json.ReadOptions())
        self._parse_options = parse_options or arrow_json.ParseOptions()
        self._is_lines = is_lines
        self._first_blocks: FirstBlocks[pyarrow.Schema | None] = FirstBlocks()

    def glimpse_bytes(self) -> int:
        return 0 if self._is_lines else _GLIMPSE_BYTES

    def has_parts(self, whole: Part) -> bool:
        if self._is_lines:
            return True
        text = b""
        with whole.open_plain(_GLIMPSE_BYTES) as file:
            # Mostly a line is short.
            while len(text) < self._block_bytes and b"\n" not in text.lstrip():
                chunk = file.read(max(_GLIMPSE_BYTES, len(text)))
                text += chunk
                if not chunk:
                    break
        return _are_lines(text)

    def read(self, part: Part) -> Iterator[Any]:
        stream, place = part.open_lines()
        with stream:
            blocks = lines.blocks(stream, self._block_bytes)
            # The first bytes tell what the file is; parts are of lines.
            first = next(blocks, b"").removeprefix(_BOM)
            if not (self._is_lines or not part.is_whole or _are_lines(first)):
                yield from self._document(first + b"".join(blocks), part)
                return
            schema = self._parse_options.explicit_schema
            is_told_here = part.begins_with(self._block_bytes)
            if not is_told_here:
                schema = self._first_blocks.of(part, self._schema_of_first)
            block = first
            while block:
                if block.strip():
                    table = self._table(block, schema, part, place)
                    schema = self._widened(schema, table.schema, part, place)
                    if is_told_here and place == 0:
                        self._first_blocks.keep(part, schema)
                    yield table
                place += len(block)
                block = next(blocks, b"")

    def _schema_of_first(self, part: Part) -> pyarrow.Schema | None:
        """The types of the file's first block: so they do not depend on where it was cut."""
        with part.open_plain(self._block_bytes) as stream:
            block = next(lines.blocks(stream, self._block_bytes), b"").removeprefix(_BOM)
        schema = self._parse_options.explicit_schema
        return self._widened(None, self._table(block, schema, part, 0).schema, part, 0) if block.strip() else schema

    def _table(self, block: bytes, schema: pyarrow.Schema | None, part: Part, place: int) -> pyarrow.Table:
        try:
            block.decode()
        except UnicodeDecodeError as error:
            line = block.count(b"\n", 0, error.start) + 1
            raise part.broken(place, f"it is not UTF-8: {error.reason} 0x{block[error.start]:02x}", line) from None
        try:
            return self._parsed(block, schema)
        except pyarrow.ArrowInvalid as error:
            if schema is not None and self._parse_options.explicit_schema is None:
                # The types of the rows before do not hold: those of this block may go together with them.
                return self._table(block, None, part, place)
            raise _broken(error, block, part, place) from None

    def _parsed(self, block: bytes, schema: pyarrow.Schema | None, *, newlines: bool = False) -> pyarrow.Table:
        read_options = arrow_json.ReadOptions(use_threads=False, block_size=len(block))
        parse_options = arrow_json.ParseOptions(
            explicit_schema=schema,
            newlines_in_values=newlines or self._parse_options.newlines_in_values,
            unexpected_field_behavior=self._parse_options.unexpected_field_behavior,
        )
        return arrow_json.read_json(pyarrow.BufferReader(block), read_options, parse_options)

    def _widened(
        self, schema: pyarrow.Schema | None, found: pyarrow.Schema, part: Part, place: int
    ) -> pyarrow.Schema | None:
        """What the next block is read with: types that are known, so that text which looks like a date stays text."""
        if self._parse_options.explicit_schema is not None:
            return self._parse_options.explicit_schema
        known = pyarrow.schema([field for field in found if not pyarrow.types.is_null(field.type)])
        if schema is None:
            return known
        if schema == found:
            return schema
        names = ("in the first rows", f"in rows behind byte {place}")
        try:
            return _one_schema.together(schema, known, names)
        except ValueError as error:
            raise ValueError(
                f"read {part.path}: {error}; parse_options=pyarrow.json.ParseOptions(explicit_schema=...) says what it is"
            ) from None

    def _document(self, text: bytes, part: Part) -> Iterator[Any]:
        """A list of objects, or objects over several lines."""
        if not text.strip():
            return
        if text.lstrip().startswith(b"["):
            try:
                rows = json.loads(text)
            except ValueError as error:
                raise ValueError(f"read {part.path}, line {getattr(error, 'lineno', 1)}: {error}") from None
            wrong = next((index for index, row in enumerate(rows) if not isinstance(row, dict)), None)
            if wrong is not None:
                raise ValueError(
                    f"read {part.path}: a list of objects is needed, and item {wrong} is {type(rows[wrong]).__name__}"
                )
            if rows:
                yield _batches.rows_to_arrow(rows, "read_json()")
            return
        try:
            yield self._parsed(text, self._parse_options.explicit_schema, newlines=True)
        except pyarrow.ArrowInvalid as error:
            line = _broken_line(text.decode(errors="replace").lstrip())
            raise ValueError(
                f"read {part.path}, line {line}: it is no list of objects and no objects, one after another: {error}"
            ) from None


def _are_lines(text: bytes) -> bool:
    """Whether a text, or what is seen of it, is an object per line."""
    try:
        return isinstance(json.loads(text.lstrip().partition(b"\n")[0]), dict)
    except ValueError:
        return False


def _broken_line(text: str) -> int:
    """The line in which the first of several objects is that is none."""
    decoder, at = json.JSONDecoder(), 0
    try:
        while at < len(text):
            _, at = decoder.raw_decode(text, at)
            at += len(text) - at - len(text[at:].lstrip()) if text[at : at + 1].isspace() else 0
    except json.JSONDecodeError as error:
        return error.lineno
    return 1


def _broken(error: pyarrow.ArrowInvalid, block: bytes, part: Part, place: int) -> ValueError:
    """The error for the first line that is no object; if all are, for what the parser says of the block."""
    changed = re.match(r"JSON parse error: Column\((.*)\) changed from (\w+) to (\w+) in row (\d+)", str(error))
    rows = 0
    for number, line in enumerate(block.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as why:
            return part.broken(place, f"it is no JSON: {why}", number)
        if not isinstance(value, dict):
            return part.broken(place, f"an object is needed, not {type(value).__name__}", number)
        if changed is not None and rows == int(changed[4]):
            column, before, here = changed[1].removeprefix("/"), changed[2], changed[3]
            told = (
                f"{column!r} is {here} here and {before} before, and values of a column have one type; make them so by a function: "
                "read_text(path).map(lambda row: json.loads(row['text']))"
            )
            return part.broken(place, told, number)
        rows += 1
    return part.broken(place, str(error))
