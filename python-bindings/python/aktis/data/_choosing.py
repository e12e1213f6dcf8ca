"""Which columns and which rows: names, new names, the first ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._computed import selected
from ._expr import Expr
from ._keywords import COLUMN_HINTS, REMOTE_ARGS, Keywords

if TYPE_CHECKING:
    from typing import Unpack

    from ._typed import ColumnHints
    from .dataset import Dataset


class Choosing:
    """The methods of a dataset that choose columns and rows. None of them calls a function."""

    _plan: Any
    _then: Callable[[Any], Dataset]
    columns: Callable[..., list[str] | Any]

    def select_columns(self, cols: str | Expr | Sequence[str | Expr], **hints: Unpack[ColumnHints]) -> Dataset:
        """These columns, in this order.

        Args:
            cols: a name or a list of names; among them may be expressions with a name, ``(col("a") + 1).alias("b")``, and ``star()``.
            hints: Ray's options of workers, which have no effect: no function runs.

        Returns:
            A dataset with these columns; others are not even read.

        Raises:
            ValueError: a column is not there; those that are there are named. Or an expression has no name.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).select_columns(["b"]).take_all()
        [{'b': 2}]
        """
        Keywords("select_columns", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        wanted = [cols] if isinstance(cols, (str, Expr)) else list(cols)
        if any(isinstance(each, Expr) for each in wanted):
            return self._then(selected(self._plan, wanted))
        return self._then(self._plan.select(wanted))

    def drop_columns(self, cols: list[str], **hints: Unpack[ColumnHints]) -> Dataset:
        """All but these columns.

        Args:
            cols: a list of names.
            hints: as for :meth:`select_columns`.

        Returns:
            A dataset with the others. Without any column left, the rows are still counted.

        Raises:
            ValueError: as for :meth:`select_columns`.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).drop_columns(["b"]).take_all()
        [{'a': 1}]
        """
        Keywords("drop_columns", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        return self._then(self._plan.drop([cols] if isinstance(cols, str) else list(cols)))

    def rename_columns(self, names: Mapping[str, str] | list[str], **hints: Unpack[ColumnHints]) -> Dataset:
        """New names: a dict from old to new, or a list with a name for every column.

        Args:
            names: the new names.
            hints: as for :meth:`select_columns`.

        Returns:
            A dataset with the same rows.

        Raises:
            ValueError: a column is not there, two would have one name, or the list has not one name for each column.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).rename_columns({"a": "c"}).take_all()
        [{'c': 1, 'b': 2}]
        """
        Keywords("rename_columns", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        if not isinstance(names, Mapping):
            old = self.columns() or []
            if len(old) != len(names):
                raise ValueError(f"rename_columns() got {len(names)} names for {len(old)} columns: {old}")
            names = dict(zip(old, names, strict=True))
        return self._then(self._plan.rename(list(names.items())))

    def explode(self, *columns: str, ignore_empty_and_null: bool = False, index_column: str | None = None) -> Dataset:
        """A row for each element of a list; the other columns are the same in all of them.

        Args:
            columns: names of columns with lists. Of several the first elements stand beside each other, and so on; where a list is
                shorter than the others there are nulls.
            ignore_empty_and_null: whether a row without an element is left out. By default it stays, with a null.
            index_column: the name of a column with the place of each element in its list, from 0.

        Returns:
            A dataset with elements in the place of lists, in their order.

        Raises:
            TypeError: a name is not text.
            ValueError: a column is not there, or is no list.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}])
        >>> ds.explode("tags").take_all()
        [{'id': 1, 'tags': 'a'}, {'id': 1, 'tags': 'b'}, {'id': 2, 'tags': None}]
        >>> ds.explode("tags", ignore_empty_and_null=True, index_column="place").take_all()
        [{'id': 1, 'tags': 'a', 'place': 0}, {'id': 1, 'tags': 'b', 'place': 1}]
        """
        for name in (*columns, *([] if index_column is None else [index_column])):
            if not isinstance(name, str):
                raise TypeError(f"explode(): the name of a column is text, not {name!r}")
        return self._then(self._plan.explode(list(columns), not ignore_empty_and_null, index_column))

    def limit(self, limit: int) -> Dataset:
        """The first rows.

        Args:
            limit: how many at most.

        Returns:
            A dataset with the first rows; what comes before it stops when they are there.

        Raises:
            ValueError: ``limit`` is not a whole number of at least 0.

        >>> import aktis.data
        >>> aktis.data.range(1000).limit(2).take_all()
        [{'id': 0}, {'id': 1}]
        """
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise ValueError(f"limit() needs a whole number of at least 0, not {limit!r}")
        return self._then(self._plan.limit(limit))
