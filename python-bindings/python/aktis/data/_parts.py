"""Rows that lie in the object store: which blocks, and which of their rows.

A part never changes and is never copied: cutting a dataset in two cuts its list of parts.

>>> parts = [Part("a", 0, 3, 30, True), Part("b", 0, 2, 20, True)]
>>> [[(part.reference, part.first_row, part.rows) for part in piece] for piece in cut(parts, [1, 3])]
[[('a', 0, 1)], [('a', 1, 2)], [('b', 0, 2)]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aktis._session import session

from . import _native


class Part(NamedTuple):
    """Rows of a block."""

    #: Of the block, an Arrow table in the object store.
    reference: Any
    first_row: int
    rows: int
    #: Of these rows in memory, about.
    bytes: int
    #: Whether these are certainly all rows of the block.
    is_whole: bool

    def first(self, rows: int) -> Part:
        """Its first rows."""
        if rows >= self.rows:
            return self
        return self._replace(rows=rows, bytes=self.bytes * rows // self.rows, is_whole=False)

    def rest(self, rows: int) -> Part:
        """What is left without its first rows, of which it has more."""
        if rows == 0:
            return self
        left = self.rows - rows
        first_row = self.first_row + rows
        return self._replace(first_row=first_row, rows=left, bytes=self.bytes * left // self.rows, is_whole=False)


def of_block(block: Any, *, is_whole: bool) -> Part:
    """What a run has made of a block; ``is_whole``: certainly all of it."""
    reference, first_row, rows, size = block.part()
    return Part(reference, first_row, rows, size, is_whole)


def of_blocks(blocks: Sequence[Any]) -> list[Part]:
    """The parts that a run has made, in order."""
    # A limit may have cut the last one.
    last = len(blocks) - 1
    return [of_block(block, is_whole=index < last) for index, block in enumerate(blocks)]


def rows_of(parts: Iterable[Part]) -> int:
    """How many rows there are."""
    return sum(part.rows for part in parts)


def cut(parts: Sequence[Part], indices: Sequence[int]) -> list[list[Part]]:
    """The parts cut before these rows, which are in order; an index beyond the end is the end."""
    pieces: list[list[Part]] = []
    left = list(reversed(parts))
    before = 0
    for index in indices:
        wanted = index - before
        piece: list[Part] = []
        while wanted > 0 and left:
            part = left.pop()
            if part.rows > wanted:
                left.append(part.rest(wanted))
                part = part.first(wanted)
            if part.rows:
                piece.append(part)
            wanted -= part.rows
        pieces.append(piece)
        before = max(before, index)
    pieces.append(list(reversed(left)))
    return pieces


def plan_of(schema: Any, parts: Iterable[Part]) -> _native.Recorder:
    """A plan that reads these rows."""
    _native.ensure_session()
    local = session.local()
    if local is not None:
        from aktis.testing._local.datasets import batches_of

        in_memory: _native.Recorder = _native.plan().from_batches(schema, batches_of(schema, list(parts)))
        return in_memory
    plan: _native.Recorder = _native.plan().from_parts(schema, [tuple(part[:4]) for part in parts])
    return plan


def table_of(part: Part) -> Any:
    """Its rows, in place, as an Arrow table."""
    import aktis

    return aktis.get(part.reference).slice(part.first_row, part.rows)
