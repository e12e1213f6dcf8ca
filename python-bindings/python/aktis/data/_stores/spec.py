"""Filesystems of fsspec."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from typing import Any

from .backend import Entry, version_of

#: What filesystems call the tag of a version, or the time of the last change: the first one counts, since lists may tell less than answers about
#: one file.
_TOLD = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")
#: Files in memory travel with the plan.
_MOST_COPIED_BYTES = 256 << 20


class SpecFiles:
    """A filesystem of fsspec."""

    has_folders = True

    def __init__(self, filesystem: Any) -> None:
        self._filesystem: Any = filesystem

    def entry(self, path: str) -> Entry | None:
        """What lies there."""
        try:
            info = self._filesystem.info(path)
        except FileNotFoundError:
            return None
        return _entry(path, info)

    def files_below(self, folder: str) -> Iterable[Entry]:
        """All files in a folder and its folders."""
        self.forget()
        found = self._filesystem.find(folder, detail=True)
        return [_entry(path, info) for path, info in found.items() if info.get("type") != "directory"]

    def missing_root(self, path: str) -> str | None:
        """Not told apart: what a bucket is, only the filesystem knows."""
        return None

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._filesystem.cat_file(path, start=start, end=end)

    def forget(self) -> None:
        """What was listed before may have changed."""
        self._filesystem.invalidate_cache()

    def write(self, local: str, path: str) -> None:
        """Makes a file of one that is here."""
        self._filesystem.makedirs(self._filesystem._parent(path), exist_ok=True)
        self._filesystem.put_file(local, path)
        self._filesystem.invalidate_cache()
        written, wanted = self._filesystem.size(path), os.path.getsize(local)
        if written != wanted:
            raise ConnectionError(f"{written} of {wanted} bytes have arrived")

    def copy(self, source: str, path: str) -> None:
        """Copies a file, in the store if it can do that."""
        self._filesystem.makedirs(self._filesystem._parent(path), exist_ok=True)
        try:
            self._filesystem.cp_file(source, path)
        except NotImplementedError:
            with self._filesystem.open(source, "rb") as stream, self._filesystem.open(path, "wb") as sink:
                shutil.copyfileobj(stream, sink, 8 << 20)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(path)

    def remove_folder(self, path: str) -> None:
        """Removes a folder with all that is in it, if it is there."""
        self._filesystem.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm(path, recursive=True)


class MemoryFiles(SpecFiles):
    """Files in the memory of this process: others get copies of them."""

    def __init__(self, filesystem: Any) -> None:
        super().__init__(filesystem)
        self._copies: dict[str, bytes] = {}
        self._entries: dict[str, Entry] = {}

    def carry(self, paths: Iterable[str]) -> None:
        """These are wanted in other processes."""
        self._copies = {path: self._filesystem.cat_file(path) for path in paths}
        entries = {path: self.entry(path) for path in self._copies}
        self._entries = {path: entry for path, entry in entries.items() if entry is not None}
        size = sum(map(len, self._copies.values()))
        if size > _MOST_COPIED_BYTES:
            raise ValueError(
                f"{size} bytes of files in memory:// would be sent to every worker, and {_MOST_COPIED_BYTES} may; write them to "
                "a folder, or use from_arrow()"
            )

    def __getstate__(self) -> tuple[dict[str, bytes], dict[str, Entry]]:
        return self._copies, self._entries

    def __setstate__(self, state: tuple[dict[str, bytes], dict[str, Entry]]) -> None:
        self._filesystem = None
        self._copies, self._entries = state

    def entry(self, path: str) -> Entry | None:
        """What lies there; of a copy, what was copied."""
        return self._entries.get(path) if self._filesystem is None else super().entry(path)

    def forget(self) -> None:
        """Copies stay as they are."""
        if self._filesystem is not None:
            super().forget()

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._copies[path][start:end] if path in self._copies else super().read(path, start, end)


def _entry(path: str, info: Any) -> Entry:
    if info.get("type") == "directory":
        return Entry(path, None)
    if info.get("size") is None:
        raise NotImplementedError(f"{path}: the filesystem does not say how long it is, so parts of it cannot be read")
    told = (info[name] for name in _TOLD if info.get(name) is not None)
    return Entry(path, int(info["size"]), version_of(next(told, None)))
