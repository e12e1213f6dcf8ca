"""What a source may tell of the rows that a task gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Block", "BlockMetadata"]

#: A ``pyarrow.Table``, a record batch, a ``pandas.DataFrame`` or a dict of columns.
Block = Any


@dataclass
class BlockMetadata:
    """What is known of the rows of a :class:`~aktis.data.datasource.ReadTask` before it runs.

    Args:
        num_rows: How many there are, or about how many: progress is told by it.
        size_bytes: How large they are.
        input_files: Where they lie.
        exec_stats: For Ray's sake.

    >>> BlockMetadata(num_rows=3).num_rows
    3
    """

    num_rows: int | None = None
    size_bytes: int | None = None
    input_files: list[str] | None = None
    exec_stats: Any = None
