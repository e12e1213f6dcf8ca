"""Reading files in a worker: the native source of files gives parts of them, a format gives their rows.

::

    part of a file ──► Format.read ──► batches ──► columns that the path tells ──► small batches put together

A format is a module with a class of these; the function that users call is its registration (`_reading_files`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import pyarrow
import pyarrow.compute

from aktis.data import _batches

from . import compressed, lines

if TYPE_CHECKING:
    from aktis.data._stores.store import Store

#: Batches smaller than this are put together: what follows works on whole batches.
_ENOUGH_BYTES = 1 << 20
#: Columns of a batch of parts that describe the parts; those behind them are told by paths.
_PART_COLUMNS = 5
#: The last line of a part ends no farther behind it, mostly, and nothing is read that is.
_LINE_BYTES = 1 << 16
#: Files whose first blocks are known at once.
_FIRST_BLOCKS = 16

_Told = TypeVar("_Told")


class Part(NamedTuple):
    """The rows that begin between two bytes of a file."""

    path: str
    size_bytes: int
    start: int
    end: int
    #: What the file is compressed with.
    compression: str | None
    #: Where it lies; ``None``: here.
    store: Store | None = None
    #: Another number when the file has changed, as far as its store told when it was looked at; 0: nothing tells.
    version: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its file."""
        return self.start == 0 and self.end == self.size_bytes

    def open(self) -> Any:
        """The whole file as a stream of bytes, uncompressed."""
        file = self.open_plain(self.size_bytes)
        return compressed.unpacked(file, self.compression) if self.compression else file

    def open_plain(self, expected: int | None = None) -> Any:
        """The whole file as it is. `expected`: bytes that will be read from the first place on, if that is known."""
        if self.store is None:
            return pyarrow.OSFile(self.path, "r")
        return self.store.open(self.path, self.size_bytes, expected=expected)

    def open_lines(self) -> tuple[Any, int]:
        """The lines of the part as a stream, and their place in the file."""
        if self.is_whole:
            return self.open(), 0
        file = self.open_plain(self.end - self.start + (_LINE_BYTES if self.end < self.size_bytes else 1))
        stream = lines.Between(file, self.start, self.end)
        return stream, stream.place

    def begins_with(self, block_bytes: int) -> bool:
        """Whether the first block of its rows is that of the file, if blocks have so many bytes."""
        return self.is_whole or (self.start == 0 and self.end >= block_bytes)

    def broken(self, at: int, why: str, line: int = 1) -> ValueError:
        """The error for the line of this number, counted from the byte `at` on."""
        with self.open() as file:
            return ValueError(f"read {self.path}, line {lines.count(file, at) + line}: {why}")


class FirstBlocks(Generic[_Told]):
    """What the first blocks of files have told, for those that are read in parts: they are read once, and not with each part."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, int, int], _Told] = {}

    def __reduce__(self) -> Any:
        # Whoever gets it reads in another process, maybe later, when files have changed.
        return FirstBlocks, ()

    def of(self, part: Part, read: Callable[[Part], _Told]) -> _Told:
        """What the first block of the part's file tells."""
        file = self._named(part)
        if file not in self._told:
            self._keep(file, read(part))
        return self._told[file]

    def keep(self, part: Part, told: _Told) -> None:
        """What the first block, which was read with its part, has told."""
        if not part.is_whole:
            self._keep(self._named(part), told)

    def _named(self, part: Part) -> tuple[str, int, int]:
        # It is seen when another file took its place, as one process may outlive that: `aktis.testing.local`.
        version = os.stat(part.path).st_mtime_ns if part.store is None else part.version
        return part.path, part.size_bytes, version

    def _keep(self, file: tuple[str, int, int], told: _Told) -> None:
        while len(self._told) >= _FIRST_BLOCKS:
            # Parts of a file come one after another.
            del self._told[next(iter(self._told))]
        self._told[file] = told


class Format:
    """How the files of one format are read."""

    #: The function of the user.
    function: ClassVar[str]
    #: Rows of every file, if they are always as many.
    rows_per_file: ClassVar[int | None] = None

    def schema(self) -> pyarrow.Schema | None:
        """The columns, if they are always the same."""
        return None

    def has_parts(self, whole: Part) -> bool:
        """Whether rows of this file, which is not compressed, can be found from anywhere in it. Asked in the driver, of large
        files."""
        return False

    def glimpse_bytes(self) -> int:
        """How much of the beginning of a file :meth:`has_parts` reads first."""
        return 0

    def read(self, part: Part) -> Iterable[Any]:
        """The rows, as tables, record batches or dicts of columns."""
        raise NotImplementedError

    def read_all(self, parts: list[Part]) -> Iterable[tuple[Part, Any]]:
        """The rows of parts, each with its part."""
        for part in parts:
            try:
                for rows in self.read(part):
                    yield part, rows
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                if part.path in str(error):
                    raise
                raise _naming(error, part.path) from error


class Reader:
    """What workers call with parts of files: a format, and what was said about all files."""

    def __init__(self, format: Format, compression: Any, store: Store | None, *, has_path: bool) -> None:
        self._format = format
        self._store = store
        self._compression = compression
        self._has_path = has_path

    def __call__(self, batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
        """The rows of parts, which come as a batch: a row each."""
        names = batch.schema.names[_PART_COLUMNS:]
        columns = [column.to_pylist() for column in batch.columns]
        places = zip(*columns[:_PART_COLUMNS], strict=True)
        parts = [
            Part(path, size, start, end, lines.compression_of(path, self._compression), self._store, version)
            for path, size, start, end, version in places
        ]
        if self._store is not None:
            self._store.announce((part.path, part.size_bytes) for part in parts if part.is_whole)
        told = {
            (part.path, part.start): [column[row] for column in columns[_PART_COLUMNS:]]
            for row, part in enumerate(parts)
        }
        rows = (
            self._with_told(_batches.to_arrow(rows, f"read {part.path}"), names, told[part.path, part.start], part)
            for part, rows in self._format.read_all(parts)
        )
        yield from together(rows)

    def _with_told(
        self, rows: pyarrow.RecordBatch, names: list[str], values: list[Any], part: Part
    ) -> pyarrow.RecordBatch:
        """The rows with what their path tells. Of a column that they have themselves it must tell the same."""
        for name, value in zip(names, values, strict=True):
            if name not in rows.schema.names:
                column = pyarrow.repeat(pyarrow.scalar(value, pyarrow.string()), rows.num_rows)
                rows = pyarrow.RecordBatch.from_arrays(
                    [*rows.columns, column], schema=rows.schema.append(pyarrow.field(name, pyarrow.string()))
                )
            elif name == "path" and self._has_path:
                raise ValueError(
                    f"read {part.path}: it has a column 'path' of its own; leave include_paths (or partitioning) out, or rename the column in the file"
                )
            else:
                _check_told(rows.column(name), name, value, f"read {part.path}", self._format.function)
        return rows


def _check_told(column: pyarrow.Array, name: str, told: str | None, doing: str, function: str) -> None:
    """Fails if rows have another value than the path of their file tells: which of both is meant nobody can tell. As in Ray."""
    try:
        same: Any = pyarrow.scalar(told, pyarrow.string()).cast(column.type)
    except pyarrow.ArrowInvalid:  # it is no value of this type
        same = None
    except pyarrow.ArrowNotImplementedError:  # nor can one be made of a text
        same = None
    if told is None:
        differs = column.is_valid()
    elif same is None:
        differs = pyarrow.repeat(pyarrow.scalar(True), len(column))
    else:
        differs = pyarrow.compute.fill_null(pyarrow.compute.call_function("not_equal", [column, same]), True)
    others = column.filter(differs)
    if len(others):
        said, has = ("null" if value is None else value for value in (told, others[0].as_py()))
        raise ValueError(
            f"{doing}: of the column {name!r} its path says {said} and the file has rows with {has}; {function}(..., partitioning=None) "
            "takes what files have"
        )


def together(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
    """The same rows in batches that are not small, as far as their columns are the same."""
    held: list[pyarrow.RecordBatch] = []
    size = 0
    for batch in batches:
        if held and (size >= _ENOUGH_BYTES or held[0].schema != batch.schema):
            yield _one(held)
            held, size = [], 0
        held.append(batch)
        size += batch.nbytes
    if held:
        yield _one(held)


def _one(batches: list[pyarrow.RecordBatch]) -> pyarrow.RecordBatch:
    return batches[0] if len(batches) == 1 else pyarrow.concat_batches(batches)


def _naming(error: Exception, path: str) -> Exception:
    """The error with the file in it."""
    if isinstance(error, OSError) and error.errno is not None:
        return type(error)(error.errno, str(error), path)
    kind = OSError if isinstance(error, OSError) else ValueError
    return kind(f"read {path}: {error}{_way_out(error)}")


def _way_out(error: Exception) -> str:
    """What helps, where the words of libraries do not say it."""
    if isinstance(error, UnicodeDecodeError):
        return (
            "; it has another encoding: read_csv(read_options=pyarrow.csv.ReadOptions(encoding='utf16')), or what it is"
        )
    if isinstance(error, OSError) and re.search(
        "inflate failed|bz2 decompress failed|ZSTD decompression failed|LZ4|Brotli|(xz|snappy) decompression failed",
        str(error),
    ):
        return (
            "; it is not compressed as its name ends, or was cut off. arrow_open_stream_args={'compression': None} reads it as it is, "
            "'gzip' and others say what it is compressed with"
        )
    return ""
