"""What lies in a folder that is written into without a word about what is there.

Ray's default is to add files, so that a job that is run twice leaves its rows twice. Nobody sees that before the rows are
counted: what is there is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aktis._session.logging_level import logger

from . import _native
from ._identities import Traits
from ._save_mode import mode_in_words

_LOGGER = logger("aktis.data")

#: The footers of more files are not read to tell their rows.
_MOST_FOOTERS = 100
_UNITS = ("kB", "MB", "GB", "TB")

#: The default of ``mode``: no other object than this one, so that ``mode="append"`` tells that it is meant. Of type ``Any``,
#: for the sake of the types that checkers and editors show.
APPEND: Any = type("_Append", (str,), {"__slots__": ()})("append")


def check_counts(function: str, counts: Mapping[str, Any]) -> None:
    """Raises for what is no number of rows or workers."""
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError(f"{function}(): {name} must be a whole number of at least 1, not {count!r}")


class Prepared(NamedTuple):
    """A folder that is written into."""

    path: str
    mode: str
    #: The prefix of the unfinished job that is gone on with.
    takes_up: str | None


def prepared(
    function: str, path: Any, mode: Any, *, try_create_dir: bool, identity: Traits | None, resume: Any
) -> Prepared | None:
    """The folder that the user named, if there is something to write; after warnings of what is there."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{function}() takes the path of a folder, not {type(path).__name__}")
    text = os.fspath(path)
    if not try_create_dir and not os.path.isdir(text):
        raise FileNotFoundError(f"{function}({text!r}, try_create_dir=False): there is no such folder")
    wanted = mode_in_words(mode)
    found = _native.jobs().prepare_folder(function, text, wanted, identity or [], resume)
    if found is None:
        return None
    folder, left_behind, job = found
    for left in left_behind:
        from aktis._messages.user_warning import warn

        warn(f"{function}({text!r}): {left}", UserWarning)
    if job is not None:
        prefix, inputs, legs = job
        _LOGGER.warning(
            "%s(%r) goes on with a job that was left unfinished: %s are done, and are not done again (resume=False begins anew)",
            function, text, _done_in_words(inputs, legs),
        )  # fmt: skip
        return Prepared(folder, wanted, prefix)
    if mode is APPEND:
        warn_of_files(function, text, folder)
    return Prepared(folder, wanted, None)


def _done_in_words(inputs: tuple[int, int], legs: tuple[int, int]) -> str:
    """How far an unfinished job has come: by inputs, and by legs before its last one, if it has these.

    >>> _done_in_words((3, 8), (0, 0)), _done_in_words((0, 0), (1, 2)), _done_in_words((3, 8), (2, 2))
    ('3 of 8 parts of its input', '1 of 3 legs', '2 of 3 legs, and 3 of 8 parts of the input of the last one,')
    """
    parts = f"{inputs[0]} of {inputs[1]} parts of "
    if not legs[1]:
        return parts + "its input"
    of_last = f", and {parts}the input of the last one," if inputs[1] else ""
    return f"{legs[0]} of {legs[1] + 1} legs{of_last}"


def for_letters(function: str, path: Any) -> str | None:
    """The folder that the user named for rows that functions fail for."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{function}(dead_letters=...) takes the path of a folder, not {type(path).__name__}")
    from ._stores.choosing import scheme_of

    if scheme_of(os.fspath(path)) is not None:
        raise NotImplementedError(
            f"{function}(dead_letters={os.fspath(path)!r}): beside a folder that is local, dead rows go into one that is; copy them after "
            "the job"
        )
    folder, *_ = _native.jobs().prepare_folder(f"{function}(dead_letters=...)", os.fspath(path), "append", [], False)
    return folder


def place_of(path: str) -> str:
    """The one name of a folder here."""
    return os.path.realpath(path)


def is_within(inner: str, outer: str) -> bool:
    """Whether a folder lies in another one."""
    return inner.startswith(outer.rstrip("/") + "/")


def check_letters(call: str, letters: str | None, other: str, place: str, *, replaces: bool) -> None:
    """Raises if the folder for dead rows of a call is where rows of a call go, its own or another, or would be taken away by it."""
    if letters is None:
        return
    letters = place_of(letters)
    if letters == place:
        raise ValueError(
            f"{call}: dead_letters={letters!r} is the folder of {other}: whoever reads its rows would read dead ones, too; give another"
        )
    if replaces and is_within(letters, place):
        raise ValueError(
            f"{call}: dead_letters={letters!r} lies in the folder of {other}, which replaces all that is in it: give a folder beside it"
        )


def warn_of_files(function: str, path: str, folder: str) -> None:
    """Warns of the files that are in ``folder``, which the user named by ``path``, if there are any."""
    there = list(_files(folder))
    if there:
        warn_of(function, path, folder, len(there), _described(there))


def warn_of(function: str, path: str, folder: str, count: int, described: str) -> None:
    from aktis._messages.user_warning import warn

    many = count != 1
    warn(
        f"{function}({path!r}): {_counted(count, 'file')} {'are' if many else 'is'} in {folder} already "
        f"({described}), and the new ones come beside {'them' if many else 'it'}: whoever reads the folder gets the rows "
        f'of both. mode="overwrite" puts the new ones in the place of what is there, "ignore" writes nothing, "error" refuses, and '
        '"append" adds them without this warning'
    )


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    """What a reader of the folder would look at."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it is not there yet, or cannot be read; the write will tell
        return
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry


def _described(files: list[os.DirEntry[str]]) -> str:
    sizes = []
    for file in files:
        try:
            sizes.append(file.stat().st_size)
        except OSError:  # gone meanwhile
            continue
    rows = _rows(files)
    return size_in_words(sum(sizes)) if rows is None else f"{_counted(rows, 'row')}, {size_in_words(sum(sizes))}"


def _rows(files: list[os.DirEntry[str]]) -> int | None:
    """The rows of all files; ``None`` if one of them does not tell, or they are too many to ask."""
    if len(files) > _MOST_FOOTERS or not all(file.name.endswith(".parquet") for file in files):
        return None
    import pyarrow.parquet

    try:
        return sum(pyarrow.parquet.read_metadata(file.path).num_rows for file in files)
    except (OSError, pyarrow.ArrowException):
        return None


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_in_words(count: int) -> str:
    """Bytes for people.

    >>> size_in_words(1), size_in_words(999), size_in_words(1000), size_in_words(123_456_789)
    ('1 bytes', '999 bytes', '1.0 kB', '123.5 MB')
    """
    if count < 1000:
        return f"{count} bytes"
    size, units = count / 1000, iter(_UNITS)
    unit = next(units)
    while size >= 1000 and (larger := next(units, None)) is not None:
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}"
