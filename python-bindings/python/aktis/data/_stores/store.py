"""A store: the files of one filesystem, by the names that users see."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow

from .backend import Entry, Files
from .file import RangeFile, Upcoming
from .foreseen import Foreseen
from .requests import Call, Request, all_answers, all_made, all_settled, made
from .spec import MemoryFiles

#: What a store copies in the time that one request may take without a word: its length is not known here.
_COPIED_BYTES = 1 << 30
#: So many files of a folder are worth a list of it.
_LISTED_FILES = 16
#: What the names of folders begin with that belong to jobs.
_JOBS = (".unfinished-", ".finished-", ".begun-")


def is_of_a_job(name: str, folder: str) -> bool:
    """Whether a file in a folder belongs to a job that has not finished.

    >>> is_of_a_job("s3://b/out/.unfinished-a/1-a.csv", "s3://b/out"), is_of_a_job("s3://b/out/a.csv", "s3://b/out/")
    (True, False)
    """
    return name[len(folder) :].lstrip("/").startswith(_JOBS)


class Store:
    """Files that are not local. Workers have their own copy of it."""

    def __init__(self, files: Files, prefix: str) -> None:
        self._files = files
        #: What stands before a path of the filesystem to make the name that users see.
        self._prefix = prefix
        self._upcoming: Upcoming | None = None
        self._foreseen = Foreseen()

    def __getstate__(self) -> tuple[Files, str]:
        return self._files, self._prefix

    def __setstate__(self, state: tuple[Files, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def dumped(self, function: str) -> bytes:
        """What :func:`load` makes the same store of, in another process."""
        from aktis._process import shared_modules
        from aktis._values import definition

        # Each worker would import what reaches the files, before its first request.
        shared_modules.ask(type(self._files).__module__)
        try:
            data = definition._dump(self, object()).data
        except Exception as error:
            raise TypeError(f"{function}(): the filesystem cannot be sent to workers, which use it: {error}") from error
        if self.can_look_again:
            _keep(data, self)
        return data

    @property
    def has_folders(self) -> bool:
        """Whether it can list what there is."""
        return self._files.has_folders

    def _path(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def _named(self, entry: Entry) -> Entry:
        return entry._replace(path=self._prefix + entry.path)

    def entries(self, names: Iterable[str]) -> list[Entry | None]:
        """What lies at each of these."""
        return self.looking(names)()

    def looking(self, names: Iterable[str]) -> Callable[[], list[Entry | None]]:
        """Asks what lies at each of these; what is returned waits for the answers."""
        names = list(names)
        self._files.forget()
        requests = [
            Request(functools.partial(self._files.entry, self._path(name)), f"look for {name}") for name in names
        ]

        def answers() -> list[Entry | None]:
            found = zip(names, (request.result() for request in requests), strict=True)
            return [None if entry is None else entry._replace(path=name) for name, entry in found]

        return answers

    def described(self, names: list[str]) -> list[tuple[int, int] | None]:
        """Lengths and versions of files as they are now. Called by native plans. Of a folder with many of them all are listed at once."""
        by_folder: dict[str, list[str]] = {}
        for name in names:
            by_folder.setdefault(name.rpartition("/")[0], []).append(name)
        found: dict[str, Entry | None] = {}
        single: list[str] = []
        for folder, files in by_folder.items():
            if self.has_folders and len(files) >= _LISTED_FILES:
                found.update((entry.path, entry) for entry in self.files_below(folder))
            else:
                single += files
        found.update(zip(single, self.entries(single), strict=True))
        entries = map(found.get, names)
        return [None if entry is None or entry.size is None else (entry.size, entry.version) for entry in entries]

    @property
    def can_look_again(self) -> bool:
        """Whether files may change, and who has a copy of the store can see it."""
        return not isinstance(self._files, MemoryFiles)

    def missing(self, name: str) -> FileNotFoundError:
        """The error for a file that is not there."""
        root = made(lambda: self._files.missing_root(self._path(name)), f"look for {name}")
        what = "file or folder" if root is None else f"bucket {root!r}; is its name right, and the endpoint?"
        return FileNotFoundError(f"read {name}: there is no such {what}")

    def files_below(self, folder: str) -> list[Entry]:
        """All files in a folder and its folders."""
        return self.listing(folder)()

    def listing(self, folder: str) -> Callable[[], list[Entry]]:
        """Asks for the files in a folder and its folders; what is returned waits for the answer."""
        path = self._path(folder)
        request = Request(lambda: list(self._files.files_below(path)), f"list {folder}")
        return lambda: [self._named(entry) for entry in request.result()]

    def _reading(self, name: str, start: int, end: int) -> Call:
        path = self._path(name)

        def read() -> bytes:
            data = self._files.read(path, start, end)
            if len(data) != end - start:
                raise ConnectionError(f"the answer has {len(data)} of {end - start} bytes")
            return data

        return Call(read, f"read {name}", end - start)

    def request(self, name: str, start: int, end: int) -> Request:
        """Asks for bytes of a file, unless that was foreseen."""
        return self._foreseen.taken(name, start, end) or Request(*self._reading(name, start, end))

    def foresee(self, ranges: Iterable[tuple[str, int, int]]) -> None:
        """These bytes of files will be asked for in a moment: names, first bytes and ends."""
        self._foreseen.add((wanted, Request(*self._reading(*wanted))) for wanted in ranges)

    def forget_foreseen(self) -> None:
        """What was foreseen and not asked for until now will not be."""
        self._foreseen.forget()

    def read_ranges(self, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Bytes of a file, with all requests under way at once. Called by the native reader of Parquet."""
        requests = [self.request(name, start, end) if end > start else None for start, end in ranges]
        return [b"" if request is None else request.result() for request in requests]

    def read_files(self, names: Iterable[str]) -> list[bytes | Exception]:
        """What lies at each of these, or why it cannot be read; many requests are under way at once."""
        names = list(names)
        read: list[Any] = all_answers(
            Call(functools.partial(self._files.entry, self._path(name)), f"look for {name}") for name in names
        )
        for at, (name, entry) in enumerate(zip(names, read, strict=True)):
            if entry is None or (not isinstance(entry, Exception) and entry.size is None):
                read[at] = self.missing(name)
        there = [at for at, entry in enumerate(read) if not isinstance(entry, Exception)]
        answers = all_answers(self._reading(names[at], 0, read[at].size) for at in there)
        for at, answer in zip(there, answers, strict=True):
            read[at] = answer
        return read

    def want(self, names: Iterable[str]) -> None:
        """These files will be read in other processes."""
        if isinstance(self._files, MemoryFiles):
            self._files.carry(map(self._path, names))

    # What the native sinks call.

    def upload(self, files: list[tuple[str, str]]) -> None:
        """Copies files from here to there: paths and names."""
        all_made(
            Call(functools.partial(self._files.write, local, self._path(name)), f"write {name}", os.path.getsize(local))
            for local, name in files
        )

    def download(self, files: list[tuple[str, str]]) -> None:
        """Copies files from there to here: paths and names."""
        for (local, name), entry in zip(files, self.entries([name for _, name in files]), strict=True):
            if entry is None or entry.size is None:
                raise self.missing(name)
            with open(local, "wb") as sink, RangeFile(self, name, entry.size, expected=entry.size) as source:
                shutil.copyfileobj(source, sink, 4 << 20)

    def publish(self, folder: str, new: list[tuple[str, str]], replaces: bool) -> None:
        """Gives uploaded files their names, all or none; ``replaces``: then what was in the folder goes."""
        old = (
            [entry.path for entry in self.files_below(folder) if not is_of_a_job(entry.path, folder)]
            if replaces
            else []
        )
        copies = [
            Call(
                functools.partial(self._files.copy, self._path(hidden), self._path(name)),
                f"write {name}",
                _COPIED_BYTES,
            )
            for hidden, name in new
        ]
        failure = all_settled(copies)
        if failure is not None:
            self._remove([name for _, name in new])
            raise failure
        named = {name for _, name in new}
        failure = self._remove([name for name in old if name not in named])
        if failure is not None:
            raise OSError(
                failure.errno,
                f"the new files are in {folder}, and some of the old ones could not be removed: {failure.strerror}",
            )

    def _remove(self, names: list[str]) -> OSError | None:
        return all_settled(
            Call(functools.partial(self._files.remove, self._path(name)), f"remove {name}") for name in names
        )

    def sweep(self, folder: str) -> None:
        """Removes a folder, if it is there."""
        made(functools.partial(self._files.remove_folder, self._path(folder)), f"remove {folder}")

    # What readers of formats call.

    def announce(self, files: Iterable[tuple[str, int]]) -> None:
        """These files will be read as a whole, in this order: names and lengths."""
        self._upcoming = Upcoming(self, files)

    def open(self, name: str, size: int, *, expected: int | None = None) -> Any:
        """A file as one of pyarrow. ``expected``: bytes that will be read from the first place on, if that is known."""
        whole = self._upcoming.taken(name) if self._upcoming is not None and expected == size else None
        return pyarrow.PythonFile(RangeFile(self, name, size, expected=expected, whole=whole), mode="r")


def load(definition: bytes) -> Store:
    """The store that was dumped: one per process, so that its connections serve all readers."""
    from aktis._values import definition as _definition
    from aktis.data import _faults

    _faults.look()
    with _lock:
        store = _stores.get(definition)
    store = _keep(definition, _definition.load(definition) if store is None else store)
    # Whoever asks for it begins something new, and files may have changed since the last time. Sinks have stores of their own kinds.
    if isinstance(store, Store):
        store._files.forget()
    return store


#: Those that were used last. In the process that has dumped one that is it: what it has connected need not be connected again.
_stores: OrderedDict[bytes, Any] = OrderedDict()
_lock = threading.Lock()
_KEPT_STORES = 16


def _keep(definition: bytes, store: Any) -> Any:
    with _lock:
        _stores[definition] = store
        _stores.move_to_end(definition)
        while len(_stores) > _KEPT_STORES:
            _stores.popitem(last=False)
    return store
