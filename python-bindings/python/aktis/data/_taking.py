"""Running a dataset and taking its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import _batches, _consume
from ._schema import Schema

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from .dataset import Dataset

Row = dict[str, Any]


class Taking:
    """The methods of a dataset that run it and give its rows, or what can be told from them."""

    _plan: Any
    _stats: Any
    _seen_schema: Schema | None
    limit: Callable[[int], Dataset]

    def _run(self, *, ordered: bool = True) -> Iterator[pyarrow.RecordBatch]:
        execution = _consume.start(self._plan, ordered=ordered)
        self._stats = execution
        return _consume.batches(execution)

    def take(self, limit: int = 20) -> list[Row]:
        """The first rows, as dicts.

        >>> import aktis.data
        >>> aktis.data.range(100).take(2)
        [{'id': 0}, {'id': 1}]
        """
        limited = self.limit(limit)
        rows = [row for batch in limited._run() for row in _batches.rows_of(batch)]
        self._stats = limited._stats
        return rows

    def take_all(self, limit: int | None = None) -> list[Row]:
        """All rows, as dicts; fails if there are more than ``limit``."""
        if limit is None:
            return [row for batch in self._run() for row in _batches.rows_of(batch)]
        rows = self.take(limit + 1)
        if len(rows) > limit:
            raise ValueError(f"the dataset has more than {limit} rows")
        return rows

    def take_batch(self, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
        """The first rows as one batch.

        >>> import aktis.data
        >>> aktis.data.range(100).take_batch(3)["id"].tolist()
        [0, 1, 2]
        """
        table = self.limit(batch_size).to_arrow()
        if table.num_rows == 0:
            raise ValueError("the dataset is empty")
        return _batches.from_arrow(_batches._one_batch(table), _batches.check_format(batch_format))

    def show(self, limit: int = 20) -> None:
        """Prints the first rows.

        >>> import aktis.data
        >>> aktis.data.range(100).show(2)
        {'id': 0}
        {'id': 1}
        """
        for row in self.take(limit):
            print(row)

    def count(self) -> int:
        """How many rows. Where the files' footers tell, nothing is read.

        >>> import aktis.data
        >>> aktis.data.range(100).count()
        100
        """
        rows = self._plan.known_rows()
        if rows is not None:
            return rows
        execution = _consume.start(self._plan, ordered=False, sink={"kind": "count"})
        self._stats = execution
        _consume.blocks(execution)
        return execution.rows_sunk()

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        **ignored: Any,
    ) -> Iterator[Any]:
        """Batches one after another, while the rest is still being made.

        >>> import aktis.data
        >>> [len(batch["id"]) for batch in aktis.data.range(10).iter_batches(batch_size=4)]
        [4, 4, 2]
        """
        if ignored.get("local_shuffle_buffer_size") is not None:
            raise NotImplementedError("iter_batches(local_shuffle_buffer_size=...) is not there yet")
        wanted = _batches.check_format(batch_format)
        for table in _rebatch(self._run(), batch_size, drop_last):
            yield _batches.from_arrow(_batches._one_batch(table), wanted)

    def iter_rows(self, **_: Any) -> Iterator[Row]:
        """Rows one after another, as dicts."""
        for batch in self._run():
            yield from _batches.rows_of(batch)

    def to_arrow(self) -> pyarrow.Table:
        """All rows as one Arrow table.

        >>> import aktis.data
        >>> aktis.data.range(3).to_arrow().num_rows
        3
        """
        import pyarrow

        batches = list(self._run())
        if not batches:
            schema = self._plan.schema()
            return (schema or pyarrow.schema([])).empty_table()
        if all(batch.schema.equals(batches[0].schema) for batch in batches):
            return pyarrow.Table.from_batches(batches)
        tables = [pyarrow.Table.from_batches([batch]) for batch in batches]
        return pyarrow.concat_tables(tables, promote_options="permissive")

    def to_pandas(self, limit: int | None = None) -> pandas.DataFrame:
        """All rows as a data frame.

        >>> import aktis.data
        >>> aktis.data.range(3).to_pandas()["id"].tolist()
        [0, 1, 2]
        """
        dataset = self if limit is None else self.limit(limit)
        return dataset.to_arrow().to_pandas()

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """The columns. If only a function knows them, it runs over the first row to find out.

        >>> import aktis.data
        >>> aktis.data.range(3).schema().names
        ['id']
        """
        known = self._plan.schema()
        if known is not None:
            return Schema(known)
        if self._seen_schema is None and fetch_if_missing:
            for batch in self.limit(1)._run():
                self._seen_schema = Schema(batch.schema)
        return self._seen_schema

    def columns(self, fetch_if_missing: bool = True) -> list[str] | None:
        """The names of the columns."""
        schema = self.schema(fetch_if_missing)
        return None if schema is None else schema.names


def _rebatch(batches: Iterator[Any], batch_size: int | None, drop_last: bool) -> Iterator[Any]:
    """Tables of exactly `batch_size` rows, the last one of what is left."""
    import pyarrow

    held: list[Any] = []
    rows = 0
    for batch in batches:
        if batch_size is None:
            yield pyarrow.Table.from_batches([batch])
            continue
        held.append(batch)
        rows += batch.num_rows
        if rows < batch_size:
            continue
        table = pyarrow.Table.from_batches(held)
        whole = rows - rows % batch_size
        for first in range(0, whole, batch_size):
            yield table.slice(first, batch_size)
        held = table.slice(whole).to_batches()
        rows -= whole
    if rows and not drop_last:
        yield pyarrow.Table.from_batches(held)
