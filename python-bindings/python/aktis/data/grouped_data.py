"""Rows with equal keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _batches, _batching, _functions, aggregate
from ._keywords import COLUMN_HINTS, REMOTE_ARGS, Keywords
from ._lowering import WHOLE_PARTITION, GroupSteps, expression_of, has_functions

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ._compute import ActorPoolStrategy, TaskPoolStrategy
    from ._expr import Expr
    from ._typed import BatchFormat, ColumnHints, RemoteArgs
    from .aggregate import Aggregation
    from .dataset import Dataset


class GroupedData:
    """A dataset by groups; :meth:`Dataset.groupby` makes it. Nothing runs until rows are taken. Groups come in any order.

    >>> import aktis.data
    >>> ds = aktis.data.from_items([{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 3}])
    >>> ds.groupby("k").sum("v").sort("k").take_all()
    [{'k': 'a', 'sum(v)': 4}, {'k': 'b', 'sum(v)': 2}]
    """

    def __init__(self, dataset: Dataset, key: str | list[str] | None) -> None:
        self._dataset = dataset
        self._key = key
        self._keys = [] if key is None else [key] if isinstance(key, str) else list(key)

    def __repr__(self) -> str:
        return f"GroupedData(dataset={self._dataset!r}, key={self._key!r})"

    def aggregate(self, *aggs: Aggregation) -> Dataset:
        """One row per group.

        Args:
            aggs: what is told of each group: see :mod:`aktis.data.aggregate`.

        Returns:
            A dataset with the columns of the keys and one column for each aggregation. Nulls of a key are one group.

        Raises:
            ValueError: there is nothing to tell, a column is not there, or two results would have one name.
            TypeError: something is no aggregation.

        >>> import aktis.data
        >>> from aktis.data.aggregate import Count, Max
        >>> ds = aktis.data.from_items([{"k": 1, "v": 5}, {"k": 1, "v": 7}])
        >>> ds.groupby("k").aggregate(Count(), Max("v")).take_all()
        [{'k': 1, 'count()': 2, 'max(v)': 7}]
        """
        if not aggs:
            raise ValueError("aggregate() needs at least one aggregation, such as aktis.data.aggregate.Count()")
        return aggregate.grouped(self._dataset, self._keys, aggs)

    def _of_columns(self, kind: Callable[..., Aggregation], on: str | list[str] | None, **options: Any) -> Dataset:
        if on is None:
            on = [name for name in self._dataset.columns() or [] if name not in self._keys]
        names = [on] if isinstance(on, str) else list(on)
        return self.aggregate(*(kind(name, **options) for name in names))

    def count(self) -> Dataset:
        """How many rows each group has.

        Returns:
            A dataset with the columns of the keys and ``count()``.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1}, {"k": 1}]).groupby("k").count().take_all()
        [{'k': 1, 'count()': 2}]
        """
        return self.aggregate(aggregate.Count())

    def sum(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        """The sum of columns in each group.

        Args:
            on: a name or a list of names; ``None``: all columns but the keys.
            ignore_nulls: as in :class:`aktis.data.aggregate.Sum`.

        Returns:
            A dataset with the columns of the keys and ``sum(column)`` for each of the columns.

        Raises:
            ValueError: a column is not there.
            TaskError: when it runs: a column has no numbers.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 3}]).groupby("k").sum("v").take_all()
        [{'k': 1, 'sum(v)': 5}]
        """
        return self._of_columns(aggregate.Sum, on, ignore_nulls=ignore_nulls)

    def min(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        """The least value of columns in each group.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Min`.

        Returns:
            A dataset with the columns of the keys and ``min(column)`` for each of the columns.

        Raises:
            ValueError: a column is not there.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 3}]).groupby("k").min("v").take_all()
        [{'k': 1, 'min(v)': 2}]
        """
        return self._of_columns(aggregate.Min, on, ignore_nulls=ignore_nulls)

    def max(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        """The greatest value of columns in each group.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Max`.

        Returns:
            A dataset with the columns of the keys and ``max(column)`` for each of the columns.

        Raises:
            ValueError: a column is not there.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 3}]).groupby("k").max("v").take_all()
        [{'k': 1, 'max(v)': 3}]
        """
        return self._of_columns(aggregate.Max, on, ignore_nulls=ignore_nulls)

    def mean(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        """The mean of columns in each group.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Mean`.

        Returns:
            A dataset with the columns of the keys and ``mean(column)`` for each of the columns.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 3}]).groupby("k").mean("v").take_all()
        [{'k': 1, 'mean(v)': 2.5}]
        """
        return self._of_columns(aggregate.Mean, on, ignore_nulls=ignore_nulls)

    def std(self, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Dataset:
        """The standard deviation of columns in each group.

        Args:
            on: as for :meth:`sum`.
            ddof: as in :class:`aktis.data.aggregate.Std`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Std`.

        Returns:
            A dataset with the columns of the keys and ``std(column)`` for each of the columns.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 4}]).groupby("k").std("v", ddof=0).take_all()
        [{'k': 1, 'std(v)': 1.0}]
        """
        return self._of_columns(aggregate.Std, on, ddof=ddof, ignore_nulls=ignore_nulls)

    def map_groups(
        self,
        fn: Any,
        *,
        zero_copy_batch: bool = True,
        compute: ActorPoolStrategy | TaskPoolStrategy | Literal["tasks", "actors"] | None = None,
        batch_format: BatchFormat | None = "default",
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        resources: Mapping[str, float] | None = None,
        **remote_args: Unpack[RemoteArgs],
    ) -> Dataset:
        """Runs a function over groups: all rows of a group in, any number of rows out.

        All rows of a group are in a worker's memory at once, and short groups beside them.

        Args:
            fn: a function from a batch to a batch (or to an iterator of batches), or a class whose ``__call__`` is one.
            zero_copy_batch: as in :meth:`Dataset.map_batches`.
            compute: as in :meth:`Dataset.map_batches`.
            batch_format: of the groups: ``"pandas"``, which is the default, ``"numpy"`` or ``"pyarrow"``.
            fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs: as in :meth:`Dataset.map_batches`.
            num_cpus, num_gpus, memory, concurrency, resources: as in :meth:`Dataset.map_batches`.
            remote_args: as in :meth:`Dataset.map_batches`.

        Returns:
            A dataset of what the function returns.

        Raises:
            TypeError, ValueError: as for :meth:`Dataset.map_batches`; or the function is async.
            ImportError: groups are data frames, and pandas is not installed.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": 4}])
        >>> ds.groupby("k").map_groups(lambda group: {"span": [group["v"].max() - group["v"].min()]}).take_all()
        [{'span': 2}]
        """
        Keywords("map_groups", refused=REMOTE_ARGS).check(remote_args)
        if _functions.is_async(fn):
            raise ValueError("map_groups() takes no async function: call asyncio.run() in it")
        compute_spec = _functions.compute_of(
            fn, compute=compute, concurrency=concurrency, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory,
            resources=resources,
        )  # fmt: skip
        name = _functions.apply_kind(fn, "MapGroups")
        definition = _functions.definition_of(
            fn, kind="groups", name=name, batch_format=_batches.format_of_groups(batch_format), zero_copy=zero_copy_batch,
            args=fn_args, kwargs=fn_kwargs, constructor_args=fn_constructor_args,
            constructor_kwargs=fn_constructor_kwargs, keys=self._keys,
        )  # fmt: skip
        groups = self._dataset._plan.cluster(self._keys)
        return self._dataset._then(
            groups.map(
                definition=definition.data,
                captured=definition.captured,
                name=name,
                compute=compute_spec,
                batch_rows=WHOLE_PARTITION,
                batching=_batching.of_groups(self._keys),
            )
        )

    def with_column(self, column_name: str, expr: Expr, **hints: Unpack[ColumnHints]) -> Dataset:
        """Adds or replaces a column by an expression over the others. A function in Python in it (:func:`udf
        <aktis.data.expressions.udf>`) is called group by group, with the values of all rows of one.

        Args:
            column_name: the column's name; one that is there is replaced where it stands.
            expr: an expression of :mod:`aktis.data.expressions`. What the engine computes of it needs no groups, and does not make
                any.
            hints: ``compute``, ``concurrency``, ``num_cpus``, ``num_gpus``, ``memory``, ``resources``: of the workers that functions in
                Python run in, as in :meth:`Dataset.map_batches`; without such a function they have no effect.

        Returns:
            A dataset of all rows, in any order, with the column.

        Raises:
            ValueError: the name is empty, the expression names a column that is not there, or its types do not fit together.
            TypeError: something is no expression.

        >>> import aktis.data
        >>> import pyarrow.compute
        >>> from aktis.data.expressions import col, udf
        >>> @udf("int64")
        ... def from_least(values):
        ...     return pyarrow.compute.subtract(values, pyarrow.compute.min(values))
        >>> ds = aktis.data.from_items([{"k": 1, "v": 5}, {"k": 1, "v": 7}, {"k": 2, "v": 3}])
        >>> ds.groupby("k").with_column("more", from_least(col("v"))).sort(["k", "v"]).take_all()
        [{'k': 1, 'v': 5, 'more': 0}, {'k': 1, 'v': 7, 'more': 2}, {'k': 2, 'v': 3, 'more': 0}]
        """
        Keywords("with_column", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        workers = {name: value for name, value in hints.items() if name in COLUMN_HINTS}
        if not isinstance(column_name, str) or not column_name:
            # Ray Data's class.
            raise ValueError(f"with_column(): the name of a column is text, not {column_name!r}")
        tree = expression_of(f"with_column(): {column_name!r}", expr)
        if not has_functions(tree):
            return self._dataset.with_column(column_name, expr)
        steps = GroupSteps(self._dataset._plan, self._keys, workers)
        steps.compute({column_name: tree})
        return self._dataset._then(steps.finished())

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __getattr__(self, name: str) -> Any:
            from aktis._messages.missing import explained

            raise AttributeError(explained("GroupedData", name, dir(type(self))))
