"""Rows that a dataset keeps from its first run for those that come after."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from . import _native

if TYPE_CHECKING:
    from .dataset import Dataset, MaterializedDataset


class Rows:
    """A plan whose rows are kept once they were made. Plans that go on from it share what it keeps.

    In another process it keeps rows of its own, or reads those that were there when it was sent.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._made: MaterializedDataset | None = None
        self._is_kept = True

    def outline(self) -> Any:
        return self._dataset._plan

    def settled(self) -> Any:
        with self._lock:
            if not self._is_kept:
                return _native.settled(self._dataset._plan)
            if self._made is None:
                self._made = self._dataset.materialize()
            return self._made._plan

    def made(self) -> MaterializedDataset | None:
        """The rows, if they were made."""
        return self._made

    def forget(self) -> None:
        """Keeps nothing any more: whoever goes on from here makes the rows again."""
        with self._lock:
            self._is_kept = False
            self._made = None

    def __reduce__(self) -> Any:
        return _restored, (self._dataset, self._made, self._is_kept)


def _restored(dataset: Dataset, made: MaterializedDataset | None, is_kept: bool) -> Rows:
    rows = Rows(dataset)
    rows._made, rows._is_kept = made, is_kept
    return rows


class Keeping:
    """The methods of a dataset that keep its rows."""

    _plan: Any
    copy: Any
    _rows: Rows | None = None

    def cache(self) -> Self:
        """Keeps the rows of the first run in the object store, for later runs of this dataset and of those that go on from it.

        Unlike :meth:`materialize`, it runs nothing, and changes this dataset. Datasets that went on from it before do not share the
        rows. Rows go to disk where the object store is full.

        Returns:
            This dataset.

        >>> import aktis.data
        >>> ds = aktis.data.range(3).map(lambda row: {"id": row["id"] + 1}).cache()
        >>> ds.sum("id"), ds.filter(expr="id > 1").count(), ds.unpersist().count()
        (6, 2, 3)
        """
        if self._rows is None:
            self._rows = Rows(self.copy())
            self._plan = _native.deferred(self._rows)
        return self

    def persist(self, spill: bool = True) -> Self:
        """The same as :meth:`cache`.

        Args:
            spill: rows go to disk where the object store is full; ``False`` is refused.

        Returns:
            This dataset.

        Raises:
            NotImplementedError: ``spill=False``.

        >>> import aktis.data
        >>> aktis.data.range(3).persist().count()
        3
        """
        if spill is not True:
            raise NotImplementedError(
                f"persist(spill={spill!r}) is not there yet: what the object store has no room for goes to disk, or the run fails; "
                "give it more room by init(object_store_memory=...)"
            )
        return self.cache()

    def unpersist(self) -> Self:
        """Forgets the rows that :meth:`cache` has kept: they are made again when they are needed.

        Returns:
            This dataset, and those that went on from it, as if it had never kept anything.

        >>> import aktis.data
        >>> aktis.data.range(3).cache().unpersist().count()
        3
        """
        if self._rows is not None:
            self._rows.forget()
            self._plan = self._rows.outline()
            self._rows = None
        return self
