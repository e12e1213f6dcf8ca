"""Files that a column names, as a column of their bytes: :func:`aktis.data.expressions.download`, in a worker."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)

#: Nobody knows how long files are that have not been looked for, and all of a call are held together.
_ROWS_AT_ONCE = 64


class Download:
    """A function from an array of paths and URLs to an array of what lies there; what cannot be read is null, as in Ray Data.

    >>> import pyarrow
    >>> Download(None)(pyarrow.array(["/dev/null", None])).to_pylist()
    [b'', None]
    """

    __name__ = "download"
    rows_at_once = _ROWS_AT_ONCE

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        # Workers stand elsewhere.
        self._folder = os.getcwd()
        self._connected: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # Connections are each process's own.
        return {**self.__dict__, "_connected": None}

    def __call__(self, column: Any) -> Any:
        import pyarrow

        from . import _plain_values

        kind = column.type
        is_text = any(
            test(kind) for test in (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_null)
        )
        if not (is_text or str(kind) == "string_view"):
            raise TypeError(f"download() takes a column of paths and URLs, which are text, and not one of {kind}")
        names = column.to_pylist()
        found: list[bytes | None] = [None] * len(names)
        failures: list[Exception] = []
        for places in self._by_place(names):
            self._fill(found, places, names, failures)
        if failures:
            logger.warning(
                "download(): %d of %d files could not be read, and are null. The first of them: %s",
                len(failures), len(names), failures[0],
            )  # fmt: skip
        return _plain_values.of_list(found).cast(pyarrow.binary())

    def _by_place(self, names: Sequence[str | None]) -> list[list[int]]:
        """The rows that are read through one connection each."""
        places: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            if name is not None:
                # The host or bucket, and the settings behind the question mark.
                place = re.match(r"[^:/]+://[^/?]*", name)
                settings = name.rpartition("?")[2] if place and "?" in name and not name.startswith("http") else ""
                key = f"{place[0]}?{settings}" if place and self._filesystem is None else ""
                places.setdefault(key, []).append(at)
        return list(places.values())

    def _fill(
        self, found: list[bytes | None], places: list[int], names: Sequence[Any], failures: list[Exception]
    ) -> None:
        """Reads what these rows name, and notes what cannot be read."""
        from ._stores import choosing

        if self._connected is None:
            self._connected = functools.lru_cache(maxsize=None)(choosing._connected)
        try:
            store, paths = choosing.chosen_store(
                "download", [names[at] for at in places], self._filesystem, connected=self._connected
            )
        except (OSError, ValueError) as error:
            # A place that is not there, and not a package that is missing: this one ends the job.
            failures.extend([error] * len(places))
            return
        read = _all_here(paths, self._folder) if store is None else store.read_files(paths)
        for at, result in zip(places, read, strict=True):
            if isinstance(result, Exception):
                failures.append(result)
            else:
                found[at] = result


def _all_here(paths: Sequence[str], folder: str) -> list[bytes | OSError]:
    return [_read_here(os.path.join(folder, re.sub(r"^(file|local)://", "", path))) for path in paths]


def _read_here(path: str) -> bytes | OSError:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return error
