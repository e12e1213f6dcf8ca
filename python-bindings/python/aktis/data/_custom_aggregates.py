"""Aggregations that are computed by Python, beside those of the engine, in one run.

```text
 rows ─► partials: each batch by groups; a group's partial result stands in one of its rows, as bytes, and is null in the others
      ─► the engine groups rows: its own functions as always, and the bytes as lists
      ─► finished: the partial results of a group are merged, and made the result
```
So partial results travel as a column, and groups, their order and memory are the engine's business.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _batches, _groups

if TYPE_CHECKING:
    from ._own_aggregates import OwnAggregation
    from .dataset import Dataset


def with_partials(dataset: Dataset, keys: list[str], aggregations: list[OwnAggregation], others: set[str]) -> Dataset:
    """The dataset with a column of partial results for each aggregation; ``others``: columns that the engine's need."""
    targets = [aggregation.get_target_column() for aggregation in aggregations]
    needed = None if None in targets else list(dict.fromkeys([*keys, *sorted(others), *map(str, targets)]))

    def partials(table: Any) -> Any:
        rows = _by_keys(_batches._one_batch(table), keys)
        columns = {name: rows.column(name) for name in rows.schema.names}
        groups = list(_groups.of(rows, keys)) if rows.num_rows else []
        for aggregation in aggregations:
            columns[aggregation._partials] = _column_of_partials(aggregation, groups, keys)
        return columns

    partials.__qualname__ = f"partials of {', '.join(aggregation.name for aggregation in aggregations)}"
    return dataset.map_batches(partials, batch_format="pyarrow", input_columns=needed, udf_modifying_row_count=False)


def finished(grouped: Dataset, keys: list[str], aggregations: list[OwnAggregation]) -> Dataset:
    """The groups with results in the place of their partial ones."""

    own = {aggregation._partials: aggregation for aggregation in aggregations}

    def results(table: Any) -> Any:
        rows = _batches._one_batch(table)
        key_values = [rows.column(key).to_pylist() for key in keys]
        columns: dict[str, Any] = {}
        for name in rows.schema.names:
            if name not in own:
                columns[name] = rows.column(name)
                continue
            columns[own[name].name] = [
                _result(own[name], partials or [], _key(keys, [values[row] for values in key_values]))
                for row, partials in enumerate(rows.column(name).to_pylist())
            ]
        return columns

    results.__qualname__ = f"results of {', '.join(aggregation.name for aggregation in aggregations)}"
    return grouped.map_batches(results, batch_format="pyarrow", udf_modifying_row_count=False)


def _by_keys(rows: Any, keys: list[str]) -> Any:
    """The rows of a record batch so that equal keys stand together."""
    if not keys or rows.num_rows < 2:
        return rows
    import pyarrow.compute

    # Its functions are made when it is imported: no checker sees them.
    compute: Any = pyarrow.compute
    plain = pyarrow.table({
        key: column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
        for key, column in zip(keys, map(rows.column, keys), strict=True)
    })  # fmt: skip
    return rows.take(compute.sort_indices(plain, sort_keys=[(key, "ascending") for key in keys]))


def _key(keys: list[str], values: list[Any]) -> Any:
    """A group's key as Ray gives it: a value of one key, else a tuple."""
    return values[0] if len(keys) == 1 else tuple(values)


def _column_of_partials(aggregation: OwnAggregation, groups: list[Any], keys: list[str]) -> Any:
    import pyarrow

    def each_row() -> Iterator[bytes | None]:
        for group in groups:
            key = _key(keys, [group.column(key)[0].as_py() for key in keys])
            yield _dumps(aggregation._of_rows(key, pyarrow.Table.from_batches([group])))
            yield from [None] * (group.num_rows - 1)

    return pyarrow.array(list(each_row()), pyarrow.binary())


def _result(aggregation: OwnAggregation, partials: list[bytes], key: Any) -> Any:
    if not partials:
        return aggregation._result(aggregation._first(key))
    merged, *rest = map(pickle.loads, partials)
    for partial in rest:
        merged = aggregation._merged(merged, partial)
    return aggregation._result(merged)


def _dumps(partial: Any) -> bytes:
    from aktis._values import serialization

    inband, buffers = serialization.dumps(partial)
    # Bytes in a column have no memory apart.
    return inband if not buffers else serialization.dumps_definition(partial)
