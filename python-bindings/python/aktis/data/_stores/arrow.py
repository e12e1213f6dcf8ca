"""Filesystems of pyarrow: S3, Google Cloud Storage, Azure, Hadoop, and whatever else it wraps."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from pyarrow import fs

from .backend import Entry, version_of

#: Files that stay open: opening one is a request of its own.
_OPEN_FILES = 128
#: After so long a file is opened once more, beside a call that has not ended.
_OPENING_SECONDS = 10.0
_CHUNK_BYTES = 8 << 20
#: S3 copies no more at once.
_MOST_COPIED_BYTES = 5_000_000_000
_WITHOUT_FOLDERS = ("s3", "gcs", "abfs")


class ArrowFiles:
    """A filesystem of pyarrow."""

    has_folders = True

    def __init__(self, filesystem: fs.FileSystem) -> None:
        self._filesystem = filesystem
        self._begin()

    def _begin(self) -> None:
        self._open: OrderedDict[str, Any] = OrderedDict()
        #: Files that are being opened: those who want the same one meanwhile wait for it.
        self._opening: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> fs.FileSystem:
        return self._filesystem

    def __setstate__(self, filesystem: fs.FileSystem) -> None:
        self._filesystem = filesystem
        self._begin()

    def entry(self, path: str) -> Entry | None:
        """What lies there."""
        info = self._filesystem.get_file_info(path)
        return None if info.type == fs.FileType.NotFound else self._entry(info)

    def files_below(self, folder: str) -> Iterable[Entry]:
        """All files in a folder and its folders."""
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        return [self._entry(info) for info in self._filesystem.get_file_info(selector) if info.type == fs.FileType.File]

    def _entry(self, info: fs.FileInfo) -> Entry:
        changed: Any = info.mtime_ns
        if changed is not None and self._filesystem.type_name in _WITHOUT_FOLDERS:
            # Lists tell more of a second than answers about one file.
            changed //= 1_000_000_000
        return Entry(info.path, info.size if info.type == fs.FileType.File else None, version_of(changed))

    def missing_root(self, path: str) -> str | None:
        """The bucket or container of a path, if it is that which is not there."""
        root = path.partition("/")[0]
        has_roots = self._filesystem.type_name in _WITHOUT_FOLDERS
        return root if has_roots and self.entry(root) is None else None

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        return self._opened(path).read_at(end - start, start)

    def _opened(self, path: str) -> Any:
        with self._lock:
            if (file := self._open.get(path)) is not None:
                self._open.move_to_end(path)
                return file
            opening = self._opening.get(path)
            is_opened_here = opening is None
            if opening is None:
                opening = self._opening[path] = Future()
        if not is_opened_here:
            with contextlib.suppress(TimeoutError):
                return opening.result(_OPENING_SECONDS)
            # Whoever has begun to open it waits for an answer that does not come.
        return self._open_now(path, opening)

    def _open_now(self, path: str, opening: Future[Any]) -> Any:
        try:
            file = self._filesystem.open_input_file(path)
        except BaseException as error:
            self._end_opening(path, opening, None)
            with contextlib.suppress(InvalidStateError):
                opening.set_exception(error)
            raise
        self._end_opening(path, opening, file)
        with contextlib.suppress(InvalidStateError):
            opening.set_result(file)
        return file

    def _end_opening(self, path: str, opening: Future[Any], file: Any) -> None:
        with self._lock:
            # If it was forgotten meanwhile, it is as files were before that.
            if self._opening.get(path) is not opening:
                return
            del self._opening[path]
            if file is None:
                return
            self._open[path] = file
            # Whoever still reads from the oldest one holds it.
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)

    def forget(self) -> None:
        """Opens all files anew: an open one is as it was."""
        with self._lock:
            self._open.clear()
            self._opening.clear()

    def write(self, local: str, path: str) -> None:
        """Makes a file of one that is here."""
        self._make_parent(path)
        with open(local, "rb") as source:
            self._write(source, path)
        # A stream that is left by an exception, or by a store that thinks it has all, ends a file too early.
        written, wanted = self._filesystem.get_file_info(path).size, os.path.getsize(local)
        if written != wanted:
            raise ConnectionError(f"{written} of {wanted} bytes have arrived")

    def _write(self, source: Any, path: str) -> None:
        with self._filesystem.open_output_stream(path, compression=None) as sink:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)

    def copy(self, source: str, path: str) -> None:
        """Copies a file, in the store if it can do that."""
        self._make_parent(path)
        entry = self.entry(source)
        if entry is None or entry.size is None:
            raise FileNotFoundError(source)
        if entry.size <= _MOST_COPIED_BYTES:
            try:
                return self._filesystem.copy_file(source, path)
            except NotImplementedError:
                pass
        with self._filesystem.open_input_stream(source, compression=None) as stream:
            return self._write(stream, path)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(path)

    def remove_folder(self, path: str) -> None:
        """Removes a folder with all that is in it, if it is there."""
        if self.entry(path) is not None:
            self._filesystem.delete_dir(path)

    def _make_parent(self, path: str) -> None:
        # Object stores have no folders: what they would make is an empty object.
        if self._filesystem.type_name not in _WITHOUT_FOLDERS:
            self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
