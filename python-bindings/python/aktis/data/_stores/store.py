"""A store: the files of one filesystem, by the names that users see."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import pyarrow

from .backend import Entry, Files
from .file import RangeFile, Upcoming
from .requests import Request, all_made, made
from .spec import MemoryFiles


class Store:
    """Files that are not local. Workers have their own copy of it."""

    def __init__(self, files: Files, prefix: str) -> None:
        self._files = files
        #: What stands before a path of the filesystem to make the name that users see.
        self._prefix = prefix
        self._upcoming: Upcoming | None = None

    def __getstate__(self) -> tuple[Files, str]:
        return self._files, self._prefix

    def __setstate__(self, state: tuple[Files, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def dumped(self, function: str) -> bytes:
        """What :func:`load` makes the same store of, in another process."""
        from aktis._values import definition

        try:
            return definition._dump(self, object()).data
        except Exception as error:
            raise TypeError(f"{function}(): the filesystem cannot be sent to workers, which use it: {error}") from error

    @property
    def has_folders(self) -> bool:
        """Whether it can list what there is."""
        return self._files.has_folders

    def _path(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def _named(self, entry: Entry) -> Entry:
        return Entry(self._prefix + entry.path, entry.size)

    def entries(self, names: Iterable[str]) -> list[Entry | None]:
        """What lies at each of these."""
        names = list(names)
        calls = [(functools.partial(self._files.entry, self._path(name)), f"look for {name}") for name in names]
        found = zip(names, all_made(calls), strict=True)
        return [None if entry is None else Entry(name, entry.size) for name, entry in found]

    def missing(self, name: str) -> FileNotFoundError:
        """The error for a file that is not there."""
        root = made(lambda: self._files.missing_root(self._path(name)), f"look for {name}")
        what = "file or folder" if root is None else f"bucket {root!r}; is its name right, and the endpoint?"
        return FileNotFoundError(f"read {name}: there is no such {what}")

    def files_below(self, folder: str) -> list[Entry]:
        """All files in a folder and its folders."""
        path = self._path(folder)
        found: list[Entry] = made(lambda: list(self._files.files_below(path)), f"list {folder}")
        return [self._named(entry) for entry in found]

    def _reading(self, name: str, start: int, end: int) -> tuple[Any, str]:
        path = self._path(name)

        def read() -> bytes:
            data = self._files.read(path, start, end)
            if len(data) != end - start:
                raise ConnectionError(f"the answer has {len(data)} of {end - start} bytes")
            return data

        return read, f"read {name}"

    def request(self, name: str, start: int, end: int) -> Request:
        """Asks for bytes of a file."""
        return Request(*self._reading(name, start, end))

    def read_ranges(self, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Bytes of a file, with all requests under way at once. Called by the native reader of Parquet."""
        calls = [self._reading(name, start, end) if end > start else (bytes, "") for start, end in ranges]
        return all_made(calls)

    def want(self, names: Iterable[str]) -> None:
        """These files will be read in other processes."""
        if isinstance(self._files, MemoryFiles):
            self._files.copy(map(self._path, names))

    def announce(self, files: Iterable[tuple[str, int]]) -> None:
        """These files will be read as a whole, in this order: names and lengths."""
        self._upcoming = Upcoming(self, files)

    def open(self, name: str, size: int, *, expected: int | None = None) -> Any:
        """A file as one of pyarrow. ``expected``: bytes that will be read from the first place on, if that is known."""
        whole = self._upcoming.taken(name) if self._upcoming is not None and expected == size else None
        return pyarrow.PythonFile(RangeFile(self, name, size, expected=expected, whole=whole), mode="r")


@functools.lru_cache(maxsize=16)
def load(definition: bytes) -> Store:
    """The store that was dumped: one per process, so that its connections serve all readers."""
    from aktis._values import definition as _definition

    return _definition.load(definition)
