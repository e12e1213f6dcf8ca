"""What a store must do; a new one is a class with these methods and a line in `choosing`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """What lies at a path."""

    path: str
    #: Bytes of a file; ``None``: it is a folder.
    size: int | None
    #: Another number when the file has changed, as far as the store tells; 0: it tells nothing.
    version: int = 0


def version_of(*told: object) -> int:
    """A number for what a store tells of a version: a tag, the time of the last change.

    >>> version_of(None), version_of("a") == version_of("a"), version_of("a") == version_of("b")
    (0, True, False)
    """
    known = [each for each in told if each is not None]
    if not known:
        return 0
    return int.from_bytes(hashlib.blake2b(repr(known).encode(), digest_size=8).digest(), "little")


class Files(Protocol):
    """Files by name. Each method is one attempt, from any thread; `requests` tries again and sets limits."""

    #: Whether it can list what there is.
    has_folders: bool

    def entry(self, path: str) -> Entry | None:
        """What lies there; ``None``: nothing."""
        ...

    def files_below(self, folder: str) -> Iterable[Entry]:
        """All files in a folder and its folders."""
        ...

    def missing_root(self, path: str) -> str | None:
        """The bucket or container of a path, if it is that which is not there."""
        ...

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file; fewer of them count as an answer that was cut off."""
        ...

    def forget(self) -> None:
        """What is known of files may not hold any more."""
        ...

    def write(self, local: str, path: str) -> None:
        """Makes a file of one that is here. What a failed attempt leaves is written over by the next one, or never named."""
        ...

    def copy(self, source: str, path: str) -> None:
        """Copies a file, in the store if it can do that."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        ...

    def remove_folder(self, path: str) -> None:
        """Removes a folder with all that is in it, if it is there."""
        ...
