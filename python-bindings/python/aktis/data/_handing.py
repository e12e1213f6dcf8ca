"""Rows as references to blocks, for who reads them elsewhere; and how much memory they take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _batches, _parts, _running
from ._packages import needs

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from aktis import ObjectRef

    from ._iterating import NumpyBatch
    from .dataset import MaterializedDataset


class Handing:
    """The methods of a dataset that give references to its blocks, and their size."""

    _plan: Any
    _stats: Any
    materialize: Callable[[], MaterializedDataset]
    to_arrow: Callable[[], pyarrow.Table]

    def to_arrow_refs(self) -> list[ObjectRef[pyarrow.Table]]:
        """Runs the dataset and gives references to its blocks, where they lie in the object store.

        Returns:
            A reference to an Arrow table for each block, in order. They are not copied, unless a limit or a cut goes through one.

        Raises:
            TaskError: as for :meth:`take`.

        >>> import aktis, aktis.data
        >>> [table.num_rows for table in aktis.get(aktis.data.range(4, override_num_blocks=2).to_arrow_refs())]
        [2, 2]
        """
        parts = self.materialize()._parts
        return [part.reference if part.is_whole else _made("pyarrow", part) for part in parts]

    def to_pandas_refs(self) -> list[ObjectRef[pandas.DataFrame]]:
        """Runs the dataset and makes data frames of its blocks, in tasks.

        Returns:
            A reference to a data frame for each block, in order.

        Raises:
            TaskError: as for :meth:`take`.

        >>> import aktis, aktis.data
        >>> [len(frame) for frame in aktis.get(aktis.data.range(4, override_num_blocks=2).to_pandas_refs())]
        [2, 2]
        """
        return [_made("pandas", part) for part in self.materialize()._parts]

    def to_numpy_refs(self, *, column: str | None = None) -> list[ObjectRef[NumpyBatch]]:
        """Runs the dataset and makes numpy arrays of its blocks, in tasks.

        Args:
            column: whose values; ``None``: a dict of all columns.

        Returns:
            A reference to an array, or a dict of arrays, for each block, in order.

        Raises:
            ValueError: the column is not there.
            TaskError: as for :meth:`take`.

        >>> import aktis, aktis.data
        >>> [len(ids) for ids in aktis.get(aktis.data.range(4, override_num_blocks=2).to_numpy_refs(column="id"))]
        [2, 2]
        """
        whole = self.materialize()
        if column is not None and column not in whole._schema.names:
            known = ", ".join(map(repr, whole._schema.names))
            raise ValueError(f"to_numpy_refs(): there is no column {column!r}; there are {known}")
        return [_made("numpy", part, column) for part in whole._parts]

    def to_daft(self) -> Any:
        """Runs the dataset and makes a data frame of Daft of its rows. Needs daft.

        Returns:
            A data frame, whose rows are in this process's memory.

        Raises:
            ImportError: daft is not installed.
            ValueError: as for :meth:`to_arrow`.
            TaskError: as for :meth:`take`.

        Example:
            >>> import aktis.data
            >>> aktis.data.range(3).to_daft().to_pydict()  # doctest: +SKIP
            {'id': [0, 1, 2]}
        """
        daft = needs("to_daft", "daft", "daft")
        return daft.from_arrow(self.to_arrow())

    def to_dask(self, meta: Any = None, verify_meta: bool = True) -> Any:
        """Runs the dataset and makes a data frame of Dask, a partition for each block. Needs dask.

        Args:
            meta: an empty data frame of pandas with the columns, as Dask wants it; ``None``: that of the first block.
            verify_meta: whether a partition with other columns is an error.

        Returns:
            A data frame. Its partitions lie in the object store until they are computed, in this process or one of its threads: Dask's other
            schedulers do not reach them.

        Raises:
            ImportError: dask is not installed.
            TaskError: as for :meth:`take`.

        Example:
            >>> import aktis.data
            >>> len(aktis.data.range(3).to_dask())  # doctest: +SKIP
            3
        """
        import aktis

        frames = needs("to_dask", "dask.dataframe", "dask[dataframe]")
        refs = self.to_pandas_refs()
        if not refs:
            return frames.from_pandas(self.to_arrow().to_pandas(), npartitions=1)
        meta = aktis.get(refs[0]).iloc[:0] if meta is None else meta
        return frames.from_map(aktis.get, refs, meta=meta, enforce_metadata=verify_meta)

    def size_bytes(self) -> int:
        """How much memory the rows take. Runs the dataset, unless it is materialised.

        Returns:
            Bytes of the blocks, with a head of some hundred bytes for each.

        Raises:
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> aktis.data.range(1000).size_bytes() >= 8000
        True
        """
        execution = _running.start(self._plan, ordered=False)
        self._stats = execution
        with contextlib.closing(_running.each_block(execution)) as blocks:
            return sum(_parts.of_block(block, is_whole=False).bytes for block in blocks)


def _made(batch_format: str, part: _parts.Part, column: str | None = None) -> Any:
    """What a task makes of a part."""
    import aktis

    return aktis.remote(_of_table).remote(part.reference, part.first_row, part.rows, batch_format, column)


def _of_table(table: Any, first_row: int, rows: int, batch_format: str, column: str | None) -> Any:
    part = table.slice(first_row, rows)
    if column is not None:
        return _batches.from_arrow(_batches._one_batch(part.select([column])), batch_format)[column]
    # What a task returns is written as it is: a slice takes the whole block with it.
    return _batches.from_arrow(_batches._one_batch(part), batch_format)
