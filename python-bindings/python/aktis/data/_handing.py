"""Rows as references to blocks, for who reads them elsewhere; and how much memory they take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _batches, _parts, _running

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
