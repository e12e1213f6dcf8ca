"""Filesystems of fsspec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .backend import Entry

#: Files in memory travel with the plan.
_MOST_COPIED_BYTES = 256 << 20


class SpecFiles:
    """A filesystem of fsspec."""

    has_folders = True

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def entry(self, path: str) -> Entry | None:
        """What lies there."""
        try:
            info = self._filesystem.info(path)
        except FileNotFoundError:
            return None
        return _entry(path, info)

    def files_below(self, folder: str) -> Iterable[Entry]:
        """All files in a folder and its folders."""
        # What was listed before may have changed.
        self._filesystem.invalidate_cache()
        found = self._filesystem.find(folder, detail=True)
        return [_entry(path, info) for path, info in found.items() if info.get("type") != "directory"]

    def missing_root(self, path: str) -> str | None:
        """Not told apart: what a bucket is, only the filesystem knows."""
        return None

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._filesystem.cat_file(path, start=start, end=end)


class MemoryFiles(SpecFiles):
    """Files in the memory of this process: others get copies of them."""

    def __init__(self, filesystem: Any) -> None:
        super().__init__(filesystem)
        self._copies: dict[str, bytes] = {}

    def copy(self, paths: Iterable[str]) -> None:
        """These are wanted in other processes."""
        self._copies = {path: self._filesystem.cat_file(path) for path in paths}
        size = sum(map(len, self._copies.values()))
        if size > _MOST_COPIED_BYTES:
            raise ValueError(
                f"{size} bytes of files in memory:// would be sent to every worker, and {_MOST_COPIED_BYTES} may; write them to "
                "a folder, or use from_arrow()"
            )

    def __getstate__(self) -> dict[str, bytes]:
        return self._copies

    def __setstate__(self, copies: dict[str, bytes]) -> None:
        self._copies = copies

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._copies[path][start:end] if path in self._copies else super().read(path, start, end)


def _entry(path: str, info: Any) -> Entry:
    if info.get("type") == "directory":
        return Entry(path, None)
    if info.get("size") is None:
        raise NotImplementedError(f"{path}: the filesystem does not say how long it is, so parts of it cannot be read")
    return Entry(path, int(info["size"]))
