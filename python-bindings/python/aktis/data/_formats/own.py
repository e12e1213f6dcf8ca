"""Files as a source of the user's reads them, see :mod:`aktis.data.datasource`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .reading import Format, Part


class Own(Format):
    """What the source says that a file has."""

    function = "read_datasource"

    def __init__(self, datasource: Any) -> None:
        self._datasource = datasource

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            yield from self._datasource._read_stream(file, part.path)
