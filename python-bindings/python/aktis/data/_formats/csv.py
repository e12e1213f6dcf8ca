"""CSV, as pyarrow reads it, block by block.

The types of a file's columns are those of its first block, whoever reads which part of it; a later value that does not fit
is an error that names its line, unless a wider type holds both without loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow
from pyarrow import csv

from . import lines
from .reading import FirstBlocks, Format, Part

#: Types that later blocks may make of those of the first one; no type at all may become any.
_WIDER = {
    pyarrow.int64(): (pyarrow.float64(),),
    pyarrow.timestamp("s"): (pyarrow.timestamp("ns"),),
}
#: How much of a file is looked at for values with lines in them.
_GLIMPSE_BYTES = 1 << 18
_PARSE_FIELDS = ("delimiter", "quote_char", "double_quote", "escape_char", "newlines_in_values", "ignore_empty_lines")
_CONVERT_FIELDS = (
    "check_utf8", "column_types", "null_values", "true_values", "false_values", "decimal_point", "strings_can_be_null",
    "quoted_strings_can_be_null", "auto_dict_encode", "auto_dict_max_cardinality", "include_columns",
    "include_missing_columns", "timestamp_parsers",
)  # fmt: skip


#: Names of columns, and their types as far as they are known.
_Known = tuple[list[str], dict[str, pyarrow.DataType]]

_AS_A_WHOLE = (
    "parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True) reads each file as a whole, so that values may have lines in "
    "them; ParseOptions(quote_char=False) takes quotes for what they are"
)


class CSV(Format):
    """Rows with the columns that the first line names."""

    function = "read_csv"

    def __init__(
        self,
        read_options: csv.ReadOptions | None,
        parse_options: csv.ParseOptions | None,
        convert_options: csv.ConvertOptions | None,
    ) -> None:
        self._read_options = read_options or csv.ReadOptions()
        lines.block_bytes_of("read_csv", self._read_options)
        self._parse_options = parse_options or csv.ParseOptions()
        self._convert_options = convert_options or csv.ConvertOptions()
        self._is_utf8 = self._read_options.encoding.lower() in ("utf8", "utf-8")
        quote = self._parse_options.quote_char
        self._quote = quote.encode() if quote else None
        self._first_blocks: FirstBlocks[_Known] = FirstBlocks()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        parse = self._parse_options
        if parse.invalid_row_handler is None:
            # Options of pyarrow that were pickled call None for each invalid row, and print that it cannot be called.
            self._parse_options = csv.ParseOptions(**{name: getattr(parse, name) for name in _PARSE_FIELDS})

    def _may_have_parts(self) -> bool:
        read, parse = self._read_options, self._parse_options
        skips = read.skip_rows or read.skip_rows_after_names
        return self._is_utf8 and not (parse.newlines_in_values or parse.escape_char or skips)

    def glimpse_bytes(self) -> int:
        return _GLIMPSE_BYTES if self._may_have_parts() and self._quote is not None else 0

    def has_parts(self, whole: Part) -> bool:
        if not self._may_have_parts():
            return False
        if self._quote is None:
            return True
        with whole.open_plain(_GLIMPSE_BYTES) as file:
            # Every second piece lies between quotes; the last one may go on.
            return all(b"\n" not in piece for piece in file.read(_GLIMPSE_BYTES).split(self._quote)[1:-1:2])

    def read(self, part: Part) -> Iterator[Any]:
        file = _File(self, part)
        stream, place = part.open_lines()
        is_first, block = place == 0, b""
        with stream:
            is_told_here = part.begins_with(self._read_options.block_size)
            if not is_told_here:
                # So that types do not depend on where the file was cut.
                file.know(*self._first_blocks.of(part, self._known_of_first))
            for block in self._blocks(stream):
                if block.strip():
                    table = file.table(block, place, is_first=is_first)
                    if is_first and is_told_here and place == 0:
                        self._first_blocks.keep(part, file.known())
                    yield table
                    is_first = False
                place += len(block)
        if not part.is_whole and self._quote is not None and block.count(self._quote) % 2:
            why = "a quoted value goes on beyond the part of the file that this worker reads, or a quote stands in an unquoted one"
            raise part.broken(place - len(block), f"{why}: {_AS_A_WHOLE}")

    def _known_of_first(self, part: Part) -> _Known:
        """The names and types of a file that its first block tells."""
        file = _File(self, part)
        with part.open_plain(self._read_options.block_size) as stream:
            first = next(self._blocks(stream), b"")
        file.table(first, 0, is_first=True)
        return file.known()

    def _blocks(self, stream: Any) -> Iterator[bytes]:
        if not self._is_utf8:
            stream = pyarrow.transcoding_input_stream(stream, self._read_options.encoding, "utf8")
        quote = None if self._parse_options.escape_char else self._quote
        if self._parse_options.escape_char and self._parse_options.newlines_in_values:
            return iter([data] if (data := stream.read()) else [])
        return lines.blocks(stream, self._read_options.block_size, quote)


class _File:
    """What is known of a file from its first block on."""

    def __init__(self, format: CSV, part: Part) -> None:
        self._format = format
        self._part = part
        self._names: list[str] = []
        self._types: dict[str, pyarrow.DataType] = {}

    def known(self) -> _Known:
        """What the blocks so far have told: names and types."""
        return list(self._names), dict(self._types)

    def know(self, names: list[str], types: dict[str, pyarrow.DataType]) -> None:
        """The first block has told this."""
        self._names, self._types = list(names), dict(types)

    def table(self, block: bytes, place: int, *, is_first: bool) -> pyarrow.Table:
        """The rows of a block, which begins at the byte `place`."""
        if is_first and not block.endswith((b"\n", b"\r")):
            block += b"\n"  # names alone are no line otherwise
        read_options = self._read_options(block, is_first=is_first)
        while True:
            try:
                table = csv.read_csv(
                    pyarrow.BufferReader(block), read_options, self._format._parse_options, self._convert_options()
                )
                break
            except pyarrow.ArrowInvalid as error:
                if not self._is_widened(str(error), block, read_options):
                    raise self._broken(error, block, place) from None
        if is_first and not self._names:
            self._names = self._names_of(block, read_options, table)
            twice = [name for at, name in enumerate(self._names) if name in self._names[:at]]
            if twice:
                raise ValueError(
                    f"read {self._part.path}: two columns have the name {twice[0]!r}; "
                    "read_options=pyarrow.csv.ReadOptions(column_names=[...], skip_rows=1) gives names of their own"
                )
        self._types.update({field.name: field.type for field in table.schema if not pyarrow.types.is_null(field.type)})
        return table

    def _read_options(self, block: bytes, *, is_first: bool) -> csv.ReadOptions:
        given = self._format._read_options
        size = max(len(block), 1)
        if is_first:
            return csv.ReadOptions(
                use_threads=False, block_size=size, skip_rows=given.skip_rows,
                skip_rows_after_names=given.skip_rows_after_names, column_names=given.column_names,
                autogenerate_column_names=given.autogenerate_column_names,
            )  # fmt: skip
        return csv.ReadOptions(use_threads=False, block_size=size, column_names=self._names)

    def _convert_options(self, *, without: str | None = None) -> csv.ConvertOptions:
        given = self._format._convert_options
        fields = {name: getattr(given, name) for name in _CONVERT_FIELDS}
        known = {name: kind for name, kind in self._types.items() if name != without}
        fields["column_types"] = {**known, **given.column_types}
        return csv.ConvertOptions(**fields)

    def _names_of(self, block: bytes, read_options: csv.ReadOptions, table: pyarrow.Table) -> list[str]:
        if not self._format._convert_options.include_columns:
            return table.column_names
        stream = csv.open_csv(pyarrow.BufferReader(block), read_options, self._format._parse_options)
        return stream.schema.names

    def _is_widened(self, message: str, block: bytes, read_options: csv.ReadOptions) -> bool:
        """Whether a wider type was found for the column that a message is about."""
        column = re.match(r"In CSV column #(\d+): .*conversion error", message)
        if column is None or not self._names:
            return False
        name = self._names[int(column[1])] if int(column[1]) < len(self._names) else ""
        known = self._types.get(name)
        if known is None or name in self._format._convert_options.column_types:
            return False
        options = self._convert_options(without=name)
        options.include_columns = [name]
        try:
            found = csv.read_csv(pyarrow.BufferReader(block), read_options, self._format._parse_options, options)
        except pyarrow.ArrowInvalid:
            return False
        if (wider := found.schema.field(name).type) not in _WIDER.get(known, ()):
            return False
        self._types[name] = wider
        return True

    def _broken(self, error: pyarrow.ArrowInvalid, block: bytes, place: int) -> ValueError:
        message = str(error)
        row = re.search(r"Row #(\d+): ", message)
        column = re.match(r"In CSV column #(\d+): ", message)
        why = message[row.end() :] if row else message
        if not self._part.is_whole and why.startswith("Expected"):
            why += f". If this line is a part of a value: {_AS_A_WHOLE}"
        index = int(column[1]) if column else -1
        if 0 <= index < len(self._names):
            name = self._names[index]
            why = f"column {name!r}: {why}"
            if "invalid UTF8" in why:
                why += (
                    "; read_options=pyarrow.csv.ReadOptions(encoding='latin-1'), or what it is, reads other encodings"
                )
            elif name in self._types and name not in self._format._convert_options.column_types:
                why += (
                    f". The type is that of the rows before; convert_options=pyarrow.csv.ConvertOptions(column_types={{{name!r}: "
                    "pyarrow.string()}) makes it another"
                )
        return self._part.broken(place, why, int(row[1]) if row else 1)
