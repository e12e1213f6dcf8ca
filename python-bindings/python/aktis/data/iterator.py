"""Rows of a dataset, or of a share of one, for a consumer."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._context import DataContext
from ._iterating import Iterating

if TYPE_CHECKING:
    import pyarrow

    from ._schema import Schema
    from .dataset import Dataset, MaterializedDataset


class DataIterator(Iterating, abc.ABC):
    """Batches and rows for a consumer; :meth:`Dataset.iterator` and :meth:`Dataset.streaming_split` make it.

    It may be given to tasks and actors, and iterated over again and again.

    >>> import aktis.data
    >>> sum(row["id"] for row in aktis.data.range(4).iterator().iter_rows())
    6
    """

    @abc.abstractmethod
    def schema(self) -> Schema | None:
        """The columns, as :meth:`Dataset.schema` tells them.

        Returns:
            Names and types; ``None`` where nothing tells them.

        >>> import aktis.data
        >>> aktis.data.range(3).iterator().schema().names
        ['id']
        """

    @abc.abstractmethod
    def stats(self) -> str:
        """What the last run did, as :meth:`Dataset.stats` tells it.

        Returns:
            Text of several lines; empty if nothing has run.

        >>> import aktis.data
        >>> aktis.data.range(3).iterator().stats()
        ''
        """

    @abc.abstractmethod
    def dead_letters(self, operator: str | None = None) -> Dataset:
        """The rows that the last run has put aside, as :meth:`Dataset.dead_letters` gives them: those of all consumers.

        Args:
            operator: only those of the step of this name.

        Returns:
            A dataset with a row for each of them.

        Raises:
            ValueError: nothing has run yet.

        >>> import aktis.data
        >>> shard = aktis.data.from_items([{"x": "1"}, {"x": "two"}]).map(
        ...     lambda row: {"x": int(row["x"])}, on_error="dead_letter"
        ... ).iterator()
        >>> [row["x"] for row in shard.iter_rows()]
        [1]
        >>> [dead["row"] for dead in shard.dead_letters().take_all()]
        [{'x': 'two'}]
        """

    @abc.abstractmethod
    def materialize(self) -> MaterializedDataset:
        """Runs once, and keeps the rows of this consumer in the object store.

        Returns:
            A dataset of them.

        Raises:
            TaskError: as for :meth:`Dataset.take`.

        >>> import aktis.data
        >>> aktis.data.range(3).iterator().materialize().count()
        3
        """

    def get_context(self) -> DataContext:
        """The settings of runs.

        Returns:
            Those of this process.

        >>> import aktis.data
        >>> aktis.data.range(1).iterator().get_context() is aktis.data.DataContext.get_current()
        True
        """
        return DataContext.get_current()

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __getattr__(self, name: str) -> Any:
            from aktis._messages.missing import explained

            raise AttributeError(explained("DataIterator", name, dir(type(self))))


class DatasetIterator(DataIterator):
    """All rows of a dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def _begin(self) -> tuple[Iterator[pyarrow.RecordBatch], Callable[[], None]]:
        return self._dataset._begin()

    def schema(self) -> Schema | None:
        return self._dataset.schema()

    def stats(self) -> str:
        return self._dataset.stats()

    def dead_letters(self, operator: str | None = None) -> Dataset:
        return self._dataset.dead_letters(operator)

    def materialize(self) -> MaterializedDataset:
        return self._dataset.materialize()

    def __repr__(self) -> str:
        return f"DataIterator({self._dataset!r})"
