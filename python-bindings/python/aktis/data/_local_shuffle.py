"""Rows in an order by chance, as far as the rows that are held at once allow.

Where all rows shall be in no order, there is ``Dataset.random_shuffle``, which costs a pass over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from . import _batches, _one_schema


class Chance(NamedTuple):
    """From how many rows each batch of so many is drawn."""

    held_rows: int
    seed: int | None
    batch_rows: int


def checked(held_rows: int | None, seed: int | None, batch_rows: int | None) -> Chance | None:
    """What the user wrote; ``None``: no order by chance.

    >>> checked(1, None, 2)
    Chance(held_rows=2, seed=None, batch_rows=2)
    """
    if held_rows is None:
        if seed is not None:
            raise ValueError(
                "local_shuffle_seed goes with local_shuffle_buffer_size=..., which says how many rows are held"
            )
        return None
    if batch_rows is None:
        raise ValueError("local_shuffle_buffer_size needs a batch_size: batches are drawn from the rows that are held")
    if not isinstance(held_rows, int) or held_rows < 1:
        raise ValueError(f"local_shuffle_buffer_size must be a whole number of at least 1, not {held_rows!r}")
    if seed is not None and not isinstance(seed, int):
        raise ValueError(f"local_shuffle_seed must be a whole number or None, not {seed!r}")
    return Chance(max(held_rows, batch_rows), seed, batch_rows)


def tables(batches: Iterator[Any], chance: Chance, drop_last: bool, what: str) -> Iterator[Any]:
    """Tables of so many rows, each row drawn from ``held_rows`` at least while there are more to come.

    Rows come in by the half of what is held, so that each of them is moved about three times.
    """
    import numpy
    import pyarrow

    generator = numpy.random.default_rng(chance.seed)
    more = max(chance.held_rows // 2, chance.batch_rows)
    held: Any = None
    for new in _one_schema.tables(batches, more, False, what):
        held = new if held is None else pyarrow.concat_tables([_grown(held, new.schema, what), new])
        if held.num_rows < chance.held_rows:
            continue
        held = held.take(generator.permutation(held.num_rows))
        while held.num_rows >= chance.held_rows:
            yield held.slice(0, chance.batch_rows)
            held = held.slice(chance.batch_rows)
    if held is None:
        return
    held = held.take(generator.permutation(held.num_rows))
    for first in range(0, held.num_rows, chance.batch_rows):
        table = held.slice(first, chance.batch_rows)
        if table.num_rows == chance.batch_rows or not drop_last:
            yield table


def _grown(held: Any, schema: Any, what: str) -> Any:
    """What is held, with the columns that have come since."""
    import pyarrow

    if held.schema.equals(schema, check_metadata=True):
        return held
    places = ("in the rows that come", "in the rows that are held")
    return pyarrow.Table.from_batches([_one_schema.conformed(_batches._one_batch(held), schema, what, places)])
