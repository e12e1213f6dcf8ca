"""Rows of a dataset in the process that asks for them, and what can be told from a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

from . import _batches, _failing, _one_schema, _running, _to_driver
from ._context import DataContext
from ._iterating import Iterating, Row
from ._progress import is_notebook
from ._schema import Schema

if TYPE_CHECKING:
    from typing import Literal

    import pandas
    import pyarrow

    from ._iterating import NumpyBatch
    from ._kept import Rows
    from ._typed import BatchFormat
    from .dataset import Dataset


class Taking(Iterating):
    """The methods of a dataset that run it and give its rows, or what can be told from them."""

    _plan: Any
    _stats: Any
    _seen_schema: Schema | None
    #: What was found of the files when it was seen.
    _seen_look: int | None
    _rows: Rows | None
    limit: Callable[[int], Dataset]
    _then: Callable[[Any], Dataset]

    def _run(self, *, ordered: bool = True) -> Iterator[pyarrow.RecordBatch]:
        execution = _running.start(self._plan, ordered=ordered)
        self._stats = execution
        return _running.batches(execution)

    def _everything(self, call: str) -> Iterator[pyarrow.RecordBatch]:
        """All rows, which the call keeps in this process."""
        return _to_driver.watched(self._run(), call, self._bytes_at_hand())

    def _bytes_at_hand(self) -> int | None:
        """How many bytes the rows are, if nothing has to be read to know it."""
        return None

    def _begin(self) -> tuple[Iterator[pyarrow.RecordBatch], Callable[[], None]]:
        batches = self._run()
        return batches, self._stats.cancel

    def take(self, limit: int = 20) -> list[Row]:
        """The first rows, as dicts.

        Args:
            limit: how many at most.

        Returns:
            One dict per row, from column to Python value; docs/data-types.md says of which type.

        Raises:
            TaskError: a function raised; the exception is also of the type that it raised.
            FileNotFoundError: a file has gone since the dataset was made.

        >>> import aktis.data
        >>> aktis.data.range(100).take(2)
        [{'id': 0}, {'id': 1}]
        """
        limited = self.limit(limit)
        rows = [row for batch in limited._run() for row in _batches.rows_of(batch)]
        self._stats = limited._stats
        return rows

    def take_all(self, limit: int | None = None) -> list[Row]:
        """All rows, as dicts; fails if there are more than ``limit``.

        Args:
            limit: how many there may be; ``None``: any number, all of which must fit into this process's memory.

        Returns:
            One dict per row.

        Raises:
            ValueError: there are more than ``limit``, or more bytes than ``DataContext.max_driver_bytes``.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> aktis.data.range(2).take_all()
        [{'id': 0}, {'id': 1}]
        """
        if limit is None:
            return [row for batch in self._everything("take_all") for row in _batches.rows_of(batch)]
        rows = self.take(limit + 1)
        if len(rows) > limit:
            raise ValueError(f"the dataset has more than {limit} rows")
        return rows

    @overload
    def take_batch(
        self, batch_size: int = 20, *, batch_format: Literal["default", "numpy"] = "default"
    ) -> NumpyBatch: ...
    @overload
    def take_batch(self, batch_size: int = 20, *, batch_format: Literal["pandas"]) -> pandas.DataFrame: ...
    @overload
    def take_batch(self, batch_size: int = 20, *, batch_format: Literal["pyarrow"] | None) -> pyarrow.Table: ...
    def take_batch(self, batch_size: int = 20, *, batch_format: BatchFormat | None = "default") -> Any:
        """The first rows as one batch.

        Args:
            batch_size: how many rows at most.
            batch_format: as in :meth:`map_batches`.

        Returns:
            A dict from column to array, the first index of which is the row; or a data frame, or an Arrow table.

        Raises:
            ValueError: there are no rows.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> aktis.data.range(100).take_batch(3)["id"].tolist()
        [0, 1, 2]
        """
        table = self.limit(batch_size).to_arrow()
        if table.num_rows == 0:
            raise ValueError("the dataset is empty")
        return _batches.from_arrow(_batches._one_batch(table), _batches.check_format(batch_format))

    def show(self, limit: int = 20) -> None:
        """Prints the first rows; in a notebook, shows them as a table with small pictures of images and tensors.

        Args:
            limit: how many rows at most.

        Raises:
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> aktis.data.range(100).show(2)
        {'id': 0}
        {'id': 1}
        """
        rows = self.take(limit)
        if is_notebook():
            from ._notebook import display_html, rows_html

            display_html(rows_html(rows), "\n".join(map(str, rows)))
            return
        for row in rows:
            print(row)

    def count(self) -> int:
        """How many rows. Where the files' footers tell, nothing is read.

        Functions that give a row for each row, as those of ``map`` do, change no number of rows and are not called for it, unless rows may be
        left out (``on_error``); :meth:`materialize` calls them.

        Returns:
            The number of rows in the files as they are now.

        Raises:
            TaskError: as for :meth:`take`.
            FileNotFoundError: a file has gone since the dataset was made.
            ValueError: files were replaced since then, and have other columns.

        >>> import aktis.data
        >>> aktis.data.range(100).count()
        100
        >>> aktis.data.range(100).map(lambda row: row["no such column"]).count()
        100
        """
        kept = self._rows.made() if self._rows is not None else None
        if kept is not None:
            return kept.count()
        if not (self._plan.has_functions() and _failing.may_lose_rows(DataContext.get_current())):
            rows = self._plan.known_rows()
            if rows is not None:
                return rows
        execution = _running.start(self._plan, ordered=False, sink={"kind": "count"})
        self._stats = execution
        _running.blocks(execution)
        return execution.rows_sunk()

    def to_arrow(self) -> pyarrow.Table:
        """All rows as one Arrow table.

        Returns:
            A table, all of which is in this process's memory.

        Raises:
            ValueError: rows of different parts have no type in common; column, types and places are named. Or there are more bytes
                than ``DataContext.max_driver_bytes``.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> aktis.data.range(3).to_arrow().num_rows
        3
        """
        return self._table("to_arrow")

    def _table(self, call: str) -> pyarrow.Table:
        import pyarrow

        batches = list(self._everything(call))
        if batches:
            return _one_schema.table_of(batches, f"{call}()")
        schema = self._plan.schema() or self._stats.seen_schema()
        return (schema or pyarrow.schema([])).empty_table()

    def to_pandas(self, limit: int | None = None) -> pandas.DataFrame:
        """All rows as a data frame; fails if there are more than ``limit``.

        Args:
            limit: how many there may be; ``None``: any number, all of which must fit into this process's memory.

        Returns:
            A data frame.

        Raises:
            ValueError: there are more than ``limit``; or as for :meth:`to_arrow`.
            TaskError: as for :meth:`to_arrow`.

        >>> import aktis.data
        >>> aktis.data.range(3).to_pandas()["id"].tolist()
        [0, 1, 2]
        """
        from . import _to_python

        if limit is None:
            return _to_python.to_pandas(self._table("to_pandas"))
        limited = self.limit(limit + 1)
        table = limited._table("to_pandas")
        self._stats = limited._stats
        if table.num_rows > limit:
            raise ValueError(f"the dataset has more than {limit} rows: to_pandas(limit=None) takes all of them")
        return _to_python.to_pandas(table)

    def schema(self, fetch_if_missing: bool = True) -> Schema | Any:
        """The columns. If only a function knows them, it runs over the first row to find out.

        Args:
            fetch_if_missing: ``False``: do not run anything to find out.

        Returns:
            Names and Arrow types of the columns; ``None`` where nothing tells them, which is so rare that checkers do not ask
            for it.

        Raises:
            TaskError: as for :meth:`take`, if something has to run.
            FileNotFoundError: a file has gone since the dataset was made.
            ValueError: files were replaced since then, and have other columns.

        >>> import aktis.data
        >>> aktis.data.range(3).schema().names
        ['id']
        """
        # Rows that were kept are as they were.
        look = self._plan.look() if fetch_if_missing and not self._plan._waits else None
        known = self._known_columns(look)
        if known is not None:
            return Schema(known)
        if fetch_if_missing:
            self._seen_schema = None
            # What the rows should be like is not asked here.
            limited = self._then(self._plan.without_expectations().limit(1))
            for batch in limited._run():
                self._seen_schema = Schema(batch.schema)
            if self._seen_schema is None and (seen := limited._stats.seen_schema()) is not None:
                # A function that returned no rows has told its columns all the same.
                self._seen_schema = Schema(seen)
            self._seen_look = limited._stats.look()
        return self._seen_schema

    def _known_columns(self, look: int | None = None) -> pyarrow.Schema | None:
        """The columns, if the plan tells them or a run has; ``look``: one of files that are as they were when this was told of them."""
        known = self._plan.schema()
        if known is None and self._seen_schema is not None and look in (None, self._seen_look):
            known = self._seen_schema.base_schema
        if known is None and self._stats is not None and look in (None, self._stats.look()):
            known = self._stats.seen_schema()
        return known

    def columns(self, fetch_if_missing: bool = True) -> list[str] | Any:
        """The names of the columns.

        Args:
            fetch_if_missing: as for :meth:`schema`.

        Returns:
            The names, in order; ``None`` where nothing tells them.

        >>> import aktis.data
        >>> aktis.data.range(3).columns()
        ['id']
        """
        schema = self.schema(fetch_if_missing)
        return None if schema is None else schema.names
