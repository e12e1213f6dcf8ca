"""ORC, as pyarrow reads it, stripe by stripe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyarrow import orc

from .reading import Format, Part


class ORC(Format):
    """Rows with the columns of the file."""

    function = "read_orc"

    def read(self, part: Part) -> Iterator[Any]:
        with part.open_plain() as source:
            file = orc.ORCFile(source)
            for stripe in range(file.nstripes):
                yield file.read_stripe(stripe)
            if file.nstripes == 0:
                yield file.schema.empty_table()
