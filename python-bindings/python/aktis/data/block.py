"""Blocks, which sources give and sinks get, and what a source may tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Block", "BlockAccessor", "BlockMetadata"]

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


class BlockAccessor:
    """A block in the form that is wanted: for sinks and sources that were written for Ray Data. New ones take a block as it is, a table.

    >>> accessor = BlockAccessor.for_block({"x": [1, 2]})
    >>> accessor.num_rows(), accessor.to_arrow().column_names, list(accessor.iter_rows())
    (2, ['x'], [{'x': 1}, {'x': 2}])
    """

    def __init__(self, table: pyarrow.Table, block: Block) -> None:
        self._table = table
        self._block = block

    @staticmethod
    def for_block(block: Block) -> BlockAccessor:
        """The accessor of a block.

        Args:
            block: a table or record batch of pyarrow, a data frame of pandas, or a dict of columns.

        Returns:
            The accessor.

        Raises:
            ValueError: it is no block.

        >>> import pyarrow
        >>> BlockAccessor.for_block(pyarrow.table({"x": [1]})).num_rows()
        1
        """
        from . import _batches

        return BlockAccessor(
            _batches.from_arrow(_batches.to_arrow(block, "BlockAccessor.for_block()"), "pyarrow"), block
        )

    def num_rows(self) -> int:
        """How many rows there are."""
        return self._table.num_rows

    def size_bytes(self) -> int:
        """How many bytes they have in memory, as a table."""
        return self._table.nbytes

    def schema(self) -> pyarrow.Schema:
        """Names and types of the columns."""
        return self._table.schema

    def to_block(self) -> Block:
        """The block as it was given."""
        return self._block

    def to_arrow(self) -> pyarrow.Table:
        """As a table."""
        return self._table

    def to_pandas(self) -> pandas.DataFrame:
        """As a data frame."""
        frame: pandas.DataFrame = self.to_batch_format("pandas")
        return frame

    def to_numpy(self, columns: str | list[str] | None = None) -> Any:
        """As a dict of arrays.

        Args:
            columns: which; one name gives the array itself.

        >>> BlockAccessor.for_block({"x": [1, 2], "y": [3, 4]}).to_numpy("y").tolist()
        [3, 4]
        """
        from . import _batches

        names = [columns] if isinstance(columns, str) else columns
        table = self._table if names is None else self._table.select(names)
        arrays = _batches.from_arrow(_batches._one_batch(table), "numpy")
        return arrays[columns] if isinstance(columns, str) else arrays

    def to_batch_format(self, batch_format: str | None) -> Any:
        """As a batch.

        Args:
            batch_format: as in :meth:`aktis.data.Dataset.map_batches`.

        Raises:
            ValueError: there is no such format.
        """
        from . import _batches

        return _batches.from_arrow(_batches._one_batch(self._table), _batches.check_format(batch_format))

    def slice(self, start: int, end: int, copy: bool = False) -> Block:
        """Some rows.

        Args:
            start: the first, from 0.
            end: the one behind the last.
            copy: whether they shall not hold the memory of the others.

        >>> BlockAccessor.for_block({"x": [1, 2, 3]}).slice(1, 3).to_pydict()
        {'x': [2, 3]}
        """
        part = self._table.slice(start, end - start)
        return part.take(list(range(part.num_rows))) if copy else part

    def iter_rows(self, public_row_format: bool = True) -> Iterator[dict[str, Any]]:
        """The rows as dicts.

        Args:
            public_row_format: Ray's; rows have one form here.
        """
        from . import _batches

        del public_row_format
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from _batches.rows_of(batch)

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(f"'BlockAccessor' object has no attribute {name!r}")
            raise AttributeError(
                f"BlockAccessor.{name} of Ray is not in Aktis: use to_arrow(), and the methods of its table"
            )
