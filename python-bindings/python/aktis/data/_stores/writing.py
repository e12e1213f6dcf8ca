"""The folder of a store that a job writes into (ADR 130)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from aktis.data import _folders
from aktis.data._dead_letters import FOLDER
from aktis.data._formats.naming import Names

from .backend import Entry
from .spec import MemoryFiles
from .store import Store, is_of_a_job

_MODES = ("append", "overwrite", "ignore", "error")


class Far(NamedTuple):
    """A folder of a store."""

    store: Store
    name: str
    #: The files that are in it, but for those of jobs that have not finished.
    there: list[Entry]
    #: Those of such jobs.
    unfinished: list[Entry]


def far_folder(function: str, path: Any, filesystem: Any) -> Far | None:
    """The folder that a path means; ``None``: it is local."""
    from .choosing import chosen_store  # not before: workers need nothing of it, and it takes long to import

    store, (name,) = chosen_store(function, [os.fspath(path)], filesystem)
    if store is None:
        return None
    if not store.has_folders:
        raise NotImplementedError(
            f"{function}({path!r}): a web server takes no files; write to a folder, and send them there"
        )
    if isinstance(store._files, MemoryFiles):
        raise NotImplementedError(
            f"{function}({path!r}): files in memory:// belong to this process, and workers write; take the rows with iter_batches() "
            "and write them here"
        )
    name = name.rstrip("/")
    (entry,) = store.entries([name])
    if entry is not None and entry.size is not None:
        raise ValueError(f"{function}({path!r}): this is a file; give a folder, which will receive one file per part")
    found = store.files_below(name) if entry is not None else []
    unfinished = [file for file in found if is_of_a_job(file.path, name)]
    return Far(store, name, [file for file in found if file not in unfinished], unfinished)


def is_wanted(function: str, far: Far, mode: str) -> bool:
    """Whether anything shall be written. Raises where that is refused."""
    if mode not in _MODES:
        raise ValueError(f"mode must be 'append', 'overwrite', 'ignore' or 'error', not {mode!r}")
    if mode == "error" and far.there:
        raise ValueError(
            f'{function}({far.name!r}, mode="error"): the folder has files already; mode="append" adds files to it, "overwrite" '
            "replaces them"
        )
    return mode != "ignore" or not far.there


def warn_of(function: str, far: Far, *, is_said: bool) -> None:
    """Warns of what jobs that did not finish have left, and, unless it is said that files are added, of what is there."""
    from aktis._messages.user_warning import warn

    jobs: dict[str, int] = {}
    for entry in far.unfinished:
        job = entry.path[len(far.name) :].lstrip("/").partition("/")[0]
        jobs[job] = jobs.get(job, 0) + 1
    for job, count in jobs.items():
        warn(
            f"{function}({far.name!r}): {far.name}/{job} holds {count} files of a job that has not finished, and {_visible(far, job)} of "
            "its files are visible. Nobody here can tell whether it still runs: if it does not, remove them",
            UserWarning,
        )
    if far.there and not is_said:
        size = _folders.size_in_words(sum(entry.size or 0 for entry in far.there))
        _folders.warn_of(function, far.name, far.name, len(far.there), size)


def _visible(far: Far, job: str) -> int:
    prefix = job.partition("-")[2]
    return sum(entry.path.rpartition("/")[2].startswith(f"{prefix}_") for entry in far.there)


class NamingStore(Store):
    """A store whose files get the names that a user gives, when all are there."""

    def __init__(self, store: Store, operation: str, prefix: str, names: Names) -> None:
        super().__init__(store._files, store._prefix)
        self._operation = operation
        self._job = prefix
        self._names = names

    def __getstate__(self) -> Any:
        return Store(self._files, self._prefix), self._operation, self._job, self._names

    def publish(self, folder: str, new: list[tuple[str, str]], replaces: bool) -> None:
        """As of any store, under these names; dead rows have files with names of their own."""
        letters = [file for file in new if file[1].startswith(f"{folder.rstrip('/')}/{FOLDER}/")]
        super().publish(folder, [*self._renamed([file for file in new if file not in letters]), *letters], replaces)

    def _renamed(self, new: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Numbers of tasks count those inputs that have files, as in a folder here."""
        by_input: dict[int, list[tuple[str, str]]] = {}
        for hidden, name in sorted(new, key=lambda file: (self._input(file[1]), file[1])):
            by_input.setdefault(self._input(name), []).append((hidden, name))
        files = [
            (task, number, hidden, *name.rpartition("/")[::2])
            for task, (_, of_task) in enumerate(sorted(by_input.items()))
            for number, (hidden, name) in enumerate(of_task)
        ]
        try:
            given = self._names([(task, number, name) for task, number, _, _, name in files])
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        renamed = [(hidden, f"{below}/{name}") for (_, _, hidden, below, _), name in zip(files, given, strict=True)]
        seen: set[str] = set()
        for _, name in renamed:
            if name in seen:
                raise OSError(errno.EINVAL, f"{self._operation}(): two files would be called {name}")
            seen.add(name)
        return renamed

    def _input(self, name: str) -> int:
        return int(name.rpartition("/")[2].removeprefix(f"{self._job}_").partition("_")[0])


@contextlib.contextmanager
def workplace() -> Iterator[str]:
    """A folder here, in which workers make files that are then uploaded."""
    folder = tempfile.mkdtemp(prefix="aktis-upload-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
