"""Where groups begin in rows that are sorted by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def of(batch: Any, keys: list[str]) -> Iterator[Any]:
    """The groups of a record batch, one after the other.

    >>> import pyarrow
    >>> batch = pyarrow.record_batch({"k": [1, 1, None, None], "v": [1, 2, 3, 4]})
    >>> [group.num_rows for group in of(batch, ["k"])]
    [2, 2]
    """
    import numpy

    begins = numpy.zeros(max(batch.num_rows - 1, 0), dtype=bool)
    for key in keys:
        begins |= _changes(batch.column(key))
    first = 0
    for end in [*(numpy.flatnonzero(begins) + 1).tolist(), batch.num_rows]:
        yield batch.slice(first, end - first)
        first = end


def _changes(column: Any) -> Any:
    """Whether a value is another than the one before. Nulls are equal to each other, and NaNs are."""
    import pyarrow.compute
    from pyarrow import types

    from . import _plain_values

    # Its functions are made when it is imported: no checker sees them.
    compute: Any = pyarrow.compute
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_float16(column.type):
        column = column.cast(pyarrow.float32())
    before, after = column[:-1], column[1:]
    try:
        differs = compute.not_equal(before, after).fill_null(False)
    except pyarrow.ArrowNotImplementedError:
        # Lists, structs, nulls that have no other type: there is nothing that compares them.
        return _changes_of_objects(column)
    if types.is_floating(column.type):
        both_nan = compute.and_(compute.is_nan(before), compute.is_nan(after)).fill_null(False)
        differs = compute.and_not(differs, both_nan)
    one_null = compute.xor(compute.is_null(before), compute.is_null(after))
    return _plain_values.to_numpy(compute.or_(differs, one_null))


def _changes_of_objects(column: Any) -> Any:
    """The same of values that are no numbers, texts or times. NaNs in them are equal to each other, too."""
    import itertools

    import numpy

    texts = [repr(value) for value in column.to_pylist()]
    changes = (one != other for one, other in itertools.pairwise(texts))
    return numpy.fromiter(changes, dtype=bool, count=max(len(texts) - 1, 0))
