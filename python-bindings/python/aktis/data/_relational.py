"""What needs rows of all parts of a dataset: order, groups, other datasets beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from . import _mixing, aggregate
from ._joins import check_datasets
from ._keywords import REMOTE_ARGS, Keywords, Refused
from ._mixing import MixStoppingCondition
from .grouped_data import GroupedData

if TYPE_CHECKING:
    from typing import Unpack

    from ._typed import RemoteArgs
    from .aggregate import Aggregation
    from .dataset import Dataset

_SORT = Keywords("sort", refused={"boundaries": Refused("leave it out: bounds of parts are not yours to choose")})
_SHUFFLE = Keywords(
    "random_shuffle",
    refused={"num_blocks": Refused("leave it out: parts are made by size"), **REMOTE_ARGS},
)
_REPARTITION = Keywords(
    "repartition",
    used=("num_blocks", "target_num_rows_per_block", "strict", "shuffle", "keys", "sort"),
)
_GROUPBY = Keywords("groupby", harmless={"num_partitions": "small partitions are put together by size"})


def _seed(call: str, seed: Any) -> int | None:
    """A seed as the plan takes it."""
    if seed is not None and not isinstance(seed, int):
        raise ValueError(f"{call}(): seed must be a whole number or None, not {seed!r}")
    return None if seed is None else seed % (1 << 64)


def _check_count(name: str, count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"repartition(): {name} must be a whole number of at least 1, not {count!r}")


def _in_blocks_of(plan: Any, rows: Any, strict: bool, others: list[str]) -> Any:
    """The plan with blocks of so many rows. ``others``: arguments that say something else."""
    if "num_blocks" in others:
        raise ValueError(
            "repartition(): Only one of `num_blocks` or `target_num_rows_per_block` must be set, but not both."
        )
    if "shuffle" in others:
        raise ValueError("repartition(): `shuffle` must be False when `target_num_rows_per_block` is set.")
    if others:
        raise ValueError(
            f"repartition(): target_num_rows_per_block= leaves rows where they are, which does not go with {'=, '.join(others)}=; "
            "leave one out"
        )
    _check_count("target_num_rows_per_block", rows)
    return plan.repartition_by_rows(rows, bool(strict))


class Relational:
    """The methods of a dataset that look at all of its rows."""

    _plan: Any
    _then: Callable[[Any], Dataset]
    columns: Callable[..., Any]

    def sort(
        self, key: str | list[str], descending: bool | list[bool] = False, boundaries: None = None, **more: Any
    ) -> Dataset:
        """All rows in order. Nulls come last; NaN is greater than any number.

        Args:
            key: a column or a list of columns, the most important first.
            descending: whether large values come first; one truth value for all columns, or one for each.
            boundaries: Ray's: refused.
            more: other arguments of Ray: refused by name, unless they are the defaults.

        Returns:
            A dataset of the same rows. Rows with equal keys come in any order.

        Raises:
            ValueError: a column is not there, or ``descending`` has not one value for each column.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"a": 1}, {"a": None}, {"a": 3}])
        >>> [row["a"] for row in ds.sort("a", descending=True).take_all()]
        [3, 1, None]
        """
        _SORT.check({"boundaries": boundaries, **more})
        names = [key] if isinstance(key, str) else list(key)
        directions = [descending] * len(names) if isinstance(descending, bool) else list(descending)
        if len(directions) != len(names):
            raise ValueError(f"sort() got {len(directions)} values of descending for {len(names)} columns: {names}")
        return self._then(self._plan.sort([(name, down, False) for name, down in zip(names, directions, strict=True)]))

    def random_shuffle(self, *, seed: int | None = None, **more: Unpack[RemoteArgs]) -> Dataset:
        """All rows in an order by chance.

        Args:
            seed: a number that always gives the same order; ``None``: another order in every run.
            more: Ray's options of workers: refused by name, unless they are the defaults.

        Returns:
            A dataset of the same rows.

        Raises:
            ValueError: the seed is no whole number.

        >>> import aktis.data
        >>> sorted(row["id"] for row in aktis.data.range(4).random_shuffle(seed=7).take_all())
        [0, 1, 2, 3]
        """
        _SHUFFLE.check(more)
        return self._then(self._plan.shuffle(_seed("random_shuffle", seed)))

    def repartition(
        self,
        num_blocks: int | None = None,
        target_num_rows_per_block: int | None = None,
        *,
        strict: bool = False,
        shuffle: bool = False,
        keys: str | list[str] | None = None,
        sort: bool = False,
        **more: Any,
    ) -> Dataset:
        """All rows in so many blocks, or in blocks of so many rows. Rows stay in their order unless ``shuffle`` or ``keys`` says otherwise.

        Args:
            num_blocks: how many blocks. Each holds the next part of the rows, all parts differ by a row at most, and fewer rows than
                that are a block each. It is cut when all rows are there.
            target_num_rows_per_block: how many rows a block has at most, in the place of ``num_blocks``. Rows stay in their order, and none
                waits for others but those of its block. A function that follows with ``batch_size=None`` gets as many at a time. How many
                rows a file has is said where it is written, by ``max_rows_per_file=``.
            strict: whether all blocks but the last have exactly ``target_num_rows_per_block`` rows. All rows pass through one worker
                then, behind all work before it. Otherwise each part that is read may end with a smaller block.
            shuffle: whether chance says where a row goes, so that each block holds rows of all parts.
            keys: a column or columns: rows with equal values in all of them are in one block. Blocks are not of the same size then, and
                may be empty.
            sort: whether the rows of a block are in the order of ``keys``. Files that are written then hold ranges of them that
                readers can pass over.
            more: other arguments of Ray: refused by name, unless they are the defaults.

        Returns:
            A dataset of the same rows. A block that is larger than blocks may be becomes several.

        Raises:
            ValueError: ``num_blocks`` or ``target_num_rows_per_block`` is not a whole number of at least 1, or both are there;
                ``strict`` without the number of rows, ``shuffle``, ``keys`` or ``sort`` with it; ``shuffle`` and ``keys`` are both there, or ``sort`` without
                ``keys``; there is no such column.

        >>> import aktis.data
        >>> aktis.data.range(100).repartition(4).materialize().num_blocks()
        4
        >>> aktis.data.range(100).repartition(target_num_rows_per_block=30, strict=True).materialize().num_blocks()
        4
        """
        _REPARTITION.check(more)
        if target_num_rows_per_block is not None:
            given = {"num_blocks": num_blocks is not None, "shuffle": shuffle, "keys": keys is not None, "sort": sort}
            others = [name for name, is_there in given.items() if is_there]
            return self._then(_in_blocks_of(self._plan, target_num_rows_per_block, strict, others))
        if strict:
            raise ValueError(
                "repartition(strict=True) makes blocks of exactly target_num_rows_per_block= rows, which is missing"
            )
        if keys is None and sort:
            raise ValueError(
                "repartition(sort=True) sorts the rows of each block by keys=, which is missing; sort(key) sorts them all"
            )
        if keys is not None and shuffle:
            raise ValueError(
                "repartition(): either keys= or chance (shuffle=True) says which block a row goes to; leave one out"
            )
        columns = [keys] if isinstance(keys, str) else keys
        if columns is not None and not (columns and all(isinstance(column, str) for column in columns)):
            raise ValueError(f"repartition(): keys must be a column or a list of columns, not {keys!r}")
        if num_blocks is None:
            raise ValueError("repartition(): Either `num_blocks` or `target_num_rows_per_block` must be set")
        _check_count("num_blocks", num_blocks)
        return self._then(self._plan.repartition(num_blocks, bool(shuffle), columns, bool(sort)))

    def random_sample(self, fraction: float, *, seed: int | None = None) -> Dataset:
        """A part of the rows by chance: each of them with the same probability.

        Args:
            fraction: the probability, from 0 to 1.
            seed: a number that always draws the same rows, as long as the dataset is read in the same parts; ``None``: others in
                every run.

        Returns:
            A dataset with about this part of the rows, in their order.

        Raises:
            ValueError: the fraction is not from 0 to 1, or the seed is no whole number.

        >>> import aktis.data
        >>> 400 < aktis.data.range(1000).random_sample(0.5, seed=1).count() < 600
        True
        """
        return self._then(self._plan.sample(float(fraction), _seed("random_sample", seed)))

    def groupby(self, key: str | list[str] | None, num_partitions: int | None = None) -> GroupedData:
        """Rows by groups.

        Args:
            key: a column or a list of columns; ``None``: all rows are one group.
            num_partitions: has no effect: partitions are made by size.

        Returns:
            Groups, to be aggregated or mapped. Nulls are equal to each other.

        Raises:
            ValueError: a column is named twice.

        >>> import aktis.data
        >>> aktis.data.range(4).groupby("id").count().sort("id").take(1)
        [{'id': 0, 'count()': 1}]
        """
        if num_partitions is not None:
            _GROUPBY.check({"num_partitions": num_partitions})
        if not (
            key is None or isinstance(key, str) or (isinstance(key, list) and all(isinstance(k, str) for k in key))
        ):
            raise ValueError(
                f"groupby() takes the name of a column, or a list of names, not {key!r}: a computed key is a column first, with_column(name, ...)"
            )
        keys = key if isinstance(key, list) else []
        if len(set(keys)) < len(keys):
            raise ValueError(f"groupby() got a column twice: {keys}")
        return GroupedData(cast("Dataset", self), key)

    def aggregate(self, *aggs: Aggregation) -> dict[str, Any]:
        """Runs the dataset and tells something of all rows.

        Args:
            aggs: what: see :mod:`aktis.data.aggregate`.

        Returns:
            A dict from the name of each aggregation to its result. Of no rows numbers of rows are 0, and others None.

        Raises:
            ValueError, TypeError: as for :meth:`GroupedData.aggregate`.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> from aktis.data.aggregate import Sum
        >>> aktis.data.range(4).aggregate(Sum("id"))
        {'sum(id)': 6}
        """
        return self.groupby(None).aggregate(*aggs).take(1)[0]

    def _total(self, kind: Callable[..., Aggregation], on: str | list[str] | None, **options: Any) -> Any:
        if on is None:
            names = self.columns() or []
        else:
            names = [on] if isinstance(on, str) else list(on)
        results = self.aggregate(*(kind(name, **options) for name in names))
        return next(iter(results.values())) if len(results) == 1 else results

    def sum(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Runs the dataset and adds up columns.

        Args:
            on: a name or a list of names; ``None``: all columns.
            ignore_nulls: as in :class:`aktis.data.aggregate.Sum`.

        Returns:
            The sum of one column, or a dict from ``sum(column)`` to it; None where there is no value.

        Raises:
            ValueError: a column is not there.
            TaskError: as for :meth:`take`; or a column has no numbers.

        >>> import aktis.data
        >>> aktis.data.range(4).sum("id")
        6
        """
        return self._total(aggregate.Sum, on, ignore_nulls=ignore_nulls)

    def min(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Runs the dataset and finds the least value of columns.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Min`.

        Returns:
            As for :meth:`sum`.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.range(4).min("id")
        0
        """
        return self._total(aggregate.Min, on, ignore_nulls=ignore_nulls)

    def max(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Runs the dataset and finds the greatest value of columns.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Max`.

        Returns:
            As for :meth:`sum`.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.range(4).max("id")
        3
        """
        return self._total(aggregate.Max, on, ignore_nulls=ignore_nulls)

    def mean(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Runs the dataset and computes the mean of columns.

        Args:
            on: as for :meth:`sum`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Mean`.

        Returns:
            As for :meth:`sum`, floats.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.range(4).mean("id")
        1.5
        """
        return self._total(aggregate.Mean, on, ignore_nulls=ignore_nulls)

    def std(self, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
        """Runs the dataset and computes the standard deviation of columns.

        Args:
            on: as for :meth:`sum`.
            ddof: as in :class:`aktis.data.aggregate.Std`.
            ignore_nulls: as in :class:`aktis.data.aggregate.Std`.

        Returns:
            As for :meth:`sum`, floats.

        Raises:
            ValueError, TaskError: as for :meth:`sum`.

        >>> import aktis.data
        >>> aktis.data.range(3).std("id")
        1.0
        """
        return self._total(aggregate.Std, on, ddof=ddof, ignore_nulls=ignore_nulls)

    def unique(self, column: str, ignore_nulls: bool = False) -> list[Any]:
        """Runs the dataset and lists the different values of a column.

        Args:
            column: its name.
            ignore_nulls: whether nulls are left out.

        Returns:
            The values in any order; None is one of them if there is a null.

        Raises:
            ValueError: the column is not there.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> sorted(aktis.data.from_items([{"x": 1}, {"x": 2}, {"x": 1}]).unique("x"))
        [1, 2]
        """
        values = self._then(self._plan.group([column], [], [(column, aggregate.quoted(column))]))
        found = (row[column] for row in values.take_all())
        return [value for value in found if not (ignore_nulls and value is None)]

    def union(self, *other: Dataset) -> Dataset:
        """The rows of this dataset and of others, one dataset after the other.

        Args:
            other: any number of datasets.

        Returns:
            A dataset of all rows. Columns go together by name, each of a type that all values fit into; what a dataset does
            not have is null there.

        Raises:
            ValueError: a column has no type in common.

        >>> import aktis.data
        >>> aktis.data.range(2).union(aktis.data.range(1)).take_all()
        [{'id': 0}, {'id': 1}, {'id': 0}]
        """
        check_datasets("union", other)
        return self._then(self._plan.union([dataset._plan for dataset in other]))

    def mix(
        self,
        *other: Dataset,
        weights: list[float] | None = None,
        stopping_condition: MixStoppingCondition = MixStoppingCondition.STOP_ON_LONGEST_DROP,
    ) -> Dataset:
        """This dataset and others interleaved, by pieces of some rows: always some of the one that is furthest behind its weight.

        All rows are made, and lie in the object store, before the first come.

        Args:
            other: any number of datasets.
            weights: how many rows of each, in proportion, this dataset first; ``None``: as many of each.
            stopping_condition: whether to end when the first dataset has no rows left, or to go on with the others.

        Returns:
            A dataset of the rows. Columns go together as in :meth:`union`.

        Raises:
            ValueError: there is not one weight for each dataset, or one is not greater than 0; or a column has no type in common.

        >>> import aktis.data
        >>> even = aktis.data.from_items([0, 2], override_num_blocks=2)
        >>> odd = aktis.data.from_items([1, 3], override_num_blocks=2)
        >>> [row["item"] for row in even.mix(odd).take_all()]
        [0, 1, 2, 3]
        """
        check_datasets("mix", other)
        datasets = [cast("Dataset", self), *other]
        stop = MixStoppingCondition(getattr(stopping_condition, "value", stopping_condition))
        return self._then(_mixing.plan_of(datasets, _mixing.checked(weights, len(datasets)), stop))
