"""Filesystems of pyarrow: S3, Google Cloud Storage, Azure, Hadoop, and whatever else it wraps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from pyarrow import fs

from .backend import Entry

#: Files that stay open: opening one is a request of its own.
_OPEN_FILES = 128


class ArrowFiles:
    """A filesystem of pyarrow."""

    has_folders = True

    def __init__(self, filesystem: fs.FileSystem) -> None:
        self._filesystem = filesystem
        self._begin()

    def _begin(self) -> None:
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> fs.FileSystem:
        return self._filesystem

    def __setstate__(self, filesystem: fs.FileSystem) -> None:
        self._filesystem = filesystem
        self._begin()

    def entry(self, path: str) -> Entry | None:
        """What lies there."""
        info = self._filesystem.get_file_info(path)
        return None if info.type == fs.FileType.NotFound else _entry(info)

    def files_below(self, folder: str) -> Iterable[Entry]:
        """All files in a folder and its folders."""
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        return [_entry(info) for info in self._filesystem.get_file_info(selector) if info.type == fs.FileType.File]

    def missing_root(self, path: str) -> str | None:
        """The bucket or container of a path, if it is that which is not there."""
        root = path.partition("/")[0]
        has_roots = self._filesystem.type_name in ("s3", "gcs", "abfs")
        return root if has_roots and self.entry(root) is None else None

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._opened(path).read_at(end - start, start)

    def _opened(self, path: str) -> Any:
        with self._lock:
            if (file := self._open.get(path)) is not None:
                self._open.move_to_end(path)
                return file
        file = self._filesystem.open_input_file(path)
        with self._lock:
            self._open[path] = file
            # Whoever still reads from the oldest one holds it.
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return file


def _entry(info: fs.FileInfo) -> Entry:
    return Entry(info.path, info.size if info.type == fs.FileType.File else None)
