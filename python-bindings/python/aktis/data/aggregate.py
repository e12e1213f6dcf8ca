"""What can be told of groups of rows, for ``Dataset.aggregate`` and ``GroupedData.aggregate``.

Names and arguments are Ray Data's. NaN is a number here, greater than any other; null is what is missing.

    >>> import aktis.data
    >>> from aktis.data.aggregate import Count, Mean
    >>> aktis.data.range(10).aggregate(Count(), Mean("id", alias_name="middle"))
    {'count()': 10, 'middle': 4.5}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from . import _custom_aggregates
from ._aggregation import ALL, Aggregation, Call, named
from ._computed import computed
from ._keywords import Keywords, Refused
from ._own_aggregates import AggregateFn, AggregateFnV2, ApproximateTopK, OwnAggregation, ValueCounter
from .expressions import col, udf

if TYPE_CHECKING:
    import pyarrow

    from .dataset import Dataset

__all__ = [
    "AbsMax",
    "AggregateFn",
    "AggregateFnV2",
    "Aggregation",
    "ApproximateQuantile",
    "ApproximateTopK",
    "AsList",
    "Count",
    "CountDistinct",
    "Max",
    "Mean",
    "Min",
    "MissingValuePercentage",
    "Quantile",
    "Std",
    "Sum",
    "Unique",
    "ValueCounter",
    "ZeroPercentage",
]


_NO_ZERO = "the result of no values is null: put another value in its place with with_column()"


def _refuse(aggregation: Aggregation, keyword: str, value: Any, way_out: str) -> None:
    """Raises unless it asks for nothing."""
    refused = {keyword: Refused(way_out, (None, False))}
    Keywords(type(aggregation).__name__, refused=refused).check({keyword: value})


class Count(Aggregation):
    """How many rows there are.

    Args:
        on: only with ``ignore_nulls``: how many of them have a value in this column.
        ignore_nulls: whether rows with a null there are left out.
        alias_name: the column of the result; by default ``count()`` or ``count(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": None}]).aggregate(Count(), Count("x", ignore_nulls=True))
    {'count()': 2, 'count(x)': 1}
    """

    def __init__(self, on: str | None = None, ignore_nulls: bool = False, alias_name: str | None = None) -> None:
        call = Call("count", on if ignore_nulls else None)
        super().__init__(alias_name or f"count({on or ''})", on, {"a": call}, "{a}")


class CountDistinct(Aggregation):
    """How many different values there are.

    Args:
        on: the column.
        ignore_nulls: whether null is none of them.
        alias_name: the column of the result; by default ``count_distinct(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": 1}, {"x": 2}]).aggregate(CountDistinct("x"))
    {'count_distinct(x)': 2}
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, "count_distinct")
        calls = {"a": Call("count_distinct", on)}
        sql = "{a}"
        if not ignore_nulls:
            calls |= {"n": Call("count", on), "all": ALL}
            sql = "{a} + CASE WHEN {n} < {all} THEN 1 ELSE 0 END"
        super().__init__(name, on, calls, sql)


class _OneCall(Aggregation):
    """What the engine has under one name."""

    _kind: str

    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, self._kind)
        super().__init__(name, on, {"a": Call(self._kind, on)}, "{a}", ignore_nulls=ignore_nulls)


class Sum(_OneCall):
    """The sum: of integers as a 64-bit integer, of decimals as a decimal, of floats as a float; null where there is no value.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``sum(on)``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Sum("id"))
    {'sum(id)': 6}
    """

    _kind = "sum"


class Min(_OneCall):
    """The least value: of numbers, texts, times; null where there is none.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``min(on)``.
        zero_factory: Ray's; only ``None``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Min("id"))
    {'min(id)': 0}
    """

    _kind = "min"

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None, zero_factory: None = None
    ) -> None:
        _refuse(self, "zero_factory", zero_factory, _NO_ZERO)
        super().__init__(on, ignore_nulls, alias_name)


class Max(_OneCall):
    """The greatest value: of numbers, texts, times; null where there is none.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``max(on)``.
        zero_factory: Ray's; only ``None``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Max("id"))
    {'max(id)': 3}
    """

    _kind = "max"

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None, zero_factory: None = None
    ) -> None:
        _refuse(self, "zero_factory", zero_factory, _NO_ZERO)
        super().__init__(on, ignore_nulls, alias_name)


class AbsMax(Aggregation):
    """The greatest distance from zero; null where there is no value.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``abs_max(on)``.
        zero_factory: Ray's; only ``None``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": -3}, {"x": 2}]).aggregate(AbsMax("x"))
    {'abs_max(x)': 3}
    """

    def __init__(
        self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None, zero_factory: None = None
    ) -> None:
        _refuse(self, "zero_factory", zero_factory, _NO_ZERO)
        on, name = named(self, on, alias_name, "abs_max")
        calls = {"a": Call("min", on), "b": Call("max", on)}
        super().__init__(name, on, calls, "greatest(abs({a}), abs({b}))", ignore_nulls=ignore_nulls)


class Mean(Aggregation):
    """The mean as a float; null where there is no value.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``mean(on)``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Mean("id"))
    {'mean(id)': 1.5}
    """

    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, "mean")
        calls = {"a": Call("sum_of_floats", on), "n": Call("count", on)}
        super().__init__(name, on, calls, "{a} / {n}", ignore_nulls=ignore_nulls)


class Std(Aggregation):
    """The standard deviation; null where there is no value, NaN where there are not more than ``ddof``.

    Args:
        on: the column.
        ddof: the squares are divided by the number of values less this one.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``std(on)``.

    >>> import aktis.data
    >>> aktis.data.range(3).aggregate(Std("id"))
    {'std(id)': 1.0}
    """

    def __init__(
        self, on: str | None = None, ddof: int = 1, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        on, name = named(self, on, alias_name, "std")
        if not isinstance(ddof, int) or ddof < 0:
            raise ValueError(f"Std(ddof=...) must be a whole number of at least 0, not {ddof!r}")
        calls = {"a": Call("variance", on), "n": Call("count", on)}
        sql = (
            f"CASE WHEN {{n}} = 0 THEN CAST(NULL AS DOUBLE) WHEN {{n}} <= {ddof} THEN CAST('NaN' AS DOUBLE) "
            f"ELSE sqrt({{a}} * {{n}} / ({{n}} - {ddof})) END"
        )
        super().__init__(name, on, calls, sql, ignore_nulls=ignore_nulls)


class Quantile(Aggregation):
    """The value that a share of all values is not greater than, as a float, between two values in proportion; null where
    there is no value.

    Args:
        on: the column.
        q: the share, from 0 to 1.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``quantile(on)``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Quantile("id", q=0.5))
    {'quantile(id)': 1.5}
    """

    def __init__(
        self, on: str | None = None, q: float = 0.5, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        on, name = named(self, on, alias_name, "quantile")
        if not 0 <= q <= 1:
            raise ValueError(f"Quantile(q=...) must be from 0 to 1, not {q!r}")
        super().__init__(name, on, {"a": Call("quantile", on, float(q))}, "{a}", ignore_nulls=ignore_nulls)


class Unique(Aggregation):
    """The different values as a list, in any order.

    Args:
        on: the column.
        ignore_nulls: whether null is none of them.
        alias_name: the column of the result; by default ``unique(on)``.
        encode_lists: Ray's; only ``None`` or ``False``: lists are values like others.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": 1}]).aggregate(Unique("x"))
    {'unique(x)': [1]}
    """

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = False,
        alias_name: str | None = None,
        encode_lists: bool | None = None,
    ) -> None:
        _refuse(self, "encode_lists", encode_lists, "make a row of each item of a list first, with flat_map()")
        on, name = named(self, on, alias_name, "unique")
        function = "distinct_values" if ignore_nulls else "distinct"
        super().__init__(name, on, {"a": Call(function, on)}, "{a}")


class AsList(Aggregation):
    """All values as a list, in any order.

    Args:
        on: the column.
        alias_name: the column of the result; by default ``list(on)``.
        ignore_nulls: whether nulls are left out.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": 1}]).aggregate(AsList("x"))
    {'list(x)': [1, 1]}
    """

    def __init__(self, on: str, alias_name: str | None = None, ignore_nulls: bool = False) -> None:
        on, name = named(self, on, alias_name, "list")
        super().__init__(name, on, {"a": Call("list_values" if ignore_nulls else "list", on)}, "{a}")


class MissingValuePercentage(Aggregation):
    """Which percentage of the rows has a null or NaN, from 0 to 100; null where there is no row.

    Args:
        on: the column.
        alias_name: the column of the result; by default ``missing_pct(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": None}]).aggregate(MissingValuePercentage("x"))
    {'missing_pct(x)': 50.0}
    """

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, "missing_pct")
        is_missing = f"aktis: whether {on} is missing"
        calls = {"n": Call("sum", is_missing), "all": ALL}
        super().__init__(name, on, calls, "CASE WHEN {all} > 0 THEN 100.0 * {n} / {all} END")
        self._computed = {is_missing: udf(return_dtype="int64")(_is_missing)(col(on))}

    def _over(self, columns: pyarrow.Schema | None) -> Aggregation:
        if columns is None or self._on not in columns.names or _may_have_nan(columns.field(self._on).type):
            return self
        calls = {"n": Call("count", self._on), "all": ALL}
        return Aggregation(self.name, self._on, calls, "CASE WHEN {all} > 0 THEN 100.0 * ({all} - {n}) / {all} END")


class ZeroPercentage(Aggregation):
    """Which percentage of the values is zero, from 0 to 100; null where there is no value.

    Args:
        on: the column, of numbers or truth values.
        ignore_nulls: ``False``: of all rows, also of those with a null.
        alias_name: the column of the result; by default ``zero_pct(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 0}, {"x": 3}, {"x": None}]).aggregate(ZeroPercentage("x"))
    {'zero_pct(x)': 50.0}
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, "zero_pct")
        is_zero = f"aktis: whether {on} is zero"
        calls = {"a": Call("sum", is_zero), "n": Call("count", on) if ignore_nulls else ALL}
        share = "CASE WHEN {a} IS NULL THEN 0.0 ELSE 100.0 * {a} / {n} END"
        super().__init__(name, on, calls, f"CASE WHEN {{n}} > 0 THEN {share} END")
        self._computed = {is_zero: (col(on).cast("float64") == 0).cast("int64")}


class ApproximateQuantile(Aggregation):
    """The values that shares of all values are not greater than, as a list of floats in the order of the shares; null where there
    is no value. They are computed exactly, as by :class:`Quantile`.

    Args:
        on: the column.
        quantiles: the shares, each from 0 to 1.
        quantile_precision: has no effect: there is nothing to be more precise than.
        alias_name: the column of the result; by default ``approx_quantile(on)``.

    >>> import aktis.data
    >>> aktis.data.range(5).aggregate(ApproximateQuantile("id", quantiles=[0.0, 0.5]))
    {'approx_quantile(id)': [0.0, 2.0]}
    """

    def __init__(
        self, on: str, quantiles: Sequence[float], quantile_precision: int = 800, alias_name: str | None = None
    ) -> None:
        on, name = named(self, on, alias_name, "approx_quantile")
        shares = list(quantiles)
        if not shares or not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"ApproximateQuantile(quantiles=...) must be numbers from 0 to 1, not {quantiles!r}")
        calls = {f"q{index}": Call("quantile", on, float(share)) for index, share in enumerate(shares)}
        values = ", ".join(f"{{{letter}}}" for letter in calls)
        sql = f"CASE WHEN {{n}} > 0 THEN make_array({values}) END"
        super().__init__(name, on, {**calls, "n": Call("count", on)}, sql)


def _may_have_nan(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_floating(kind) or pyarrow.types.is_dictionary(kind)


def _is_missing(values: Any) -> Any:
    """1 for each null or NaN, of columns of any type."""
    import pyarrow.compute

    # Its functions are made when it is imported: no checker sees them.
    compute: Any = pyarrow.compute
    return compute.is_null(values, nan_is_null=True).cast("int64")


def quoted(name: str) -> str:
    """A name of a column in SQL.

    >>> print(quoted('a"b'))
    "a""b"
    """
    return '"' + name.replace('"', '""') + '"'


def grouped(dataset: Dataset, keys: list[str], aggregations: Sequence[Aggregation]) -> Dataset:
    """One row per group, with what is told of it."""
    for aggregation in aggregations:
        if not isinstance(aggregation, Aggregation):
            raise TypeError(
                f"aggregate() takes aggregations such as aktis.data.aggregate.Sum('x'), not {aggregation!r}; for a function of "
                "your own use AggregateFn, or groupby(...).map_groups()"
            )
    columns = dataset._plan.schema()
    aggregations = _told_apart([aggregation._over(columns) for aggregation in aggregations])
    _check_columns(dataset, keys, aggregations)
    helpers = {name: expr for each in aggregations for name, expr in (each._computed or {}).items()}
    if helpers:
        dataset = dataset._then(computed(dataset._plan, "aggregate()", helpers))
    own = [aggregation for aggregation in aggregations if isinstance(aggregation, OwnAggregation)]
    if own:
        others = {call.column for each in aggregations if each not in own for call in each._calls.values()}
        dataset = _custom_aggregates.with_partials(dataset, keys, own, cast("set[str]", others - {None}))
    calls, outputs = _lowered(keys, aggregations)
    names = [name for name, _ in outputs]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise ValueError(
            f"aggregate(): there would be two columns named {twice!r}: give one of the aggregations an alias_name"
        )
    groups = dataset._then(dataset._plan.group(keys, calls, outputs))
    return _custom_aggregates.finished(groups, keys, own) if own else groups


def _told_apart(aggregations: Sequence[Aggregation]) -> list[Aggregation]:
    """The same, of which the second of a name has a 2 behind it, the third a 3, as in Ray."""
    counts: dict[str, int] = {}
    told = []
    for aggregation in aggregations:
        count = counts[aggregation.name] = counts.get(aggregation.name, 0) + 1
        told.append(aggregation if count == 1 else aggregation._named(f"{aggregation.name}_{count}"))
    return told


def _check_columns(dataset: Dataset, keys: list[str], aggregations: Sequence[Aggregation]) -> None:
    """For columns that functions of Python look at; the engine looks for its own."""
    own = [each for each in aggregations if isinstance(each, OwnAggregation) or each._computed]
    known = dataset._known_columns() if own else None
    wanted = [*(("groupby", key) for key in keys), *(("aggregate", each._on) for each in own)]
    available = None if known is None else list(known.names)
    for call, name in wanted:
        if available is not None and name is not None and name not in available:
            raise ValueError(f"{call}(): there is no column {name!r}; there are {', '.join(map(repr, available))}")
    names = [*keys, *(each.name for each in aggregations)]
    twice = [name for name in names if names.count(name) > 1]
    if own and twice:
        raise ValueError(f"aggregate(): two results have the name {twice[0]!r}: give one of them an alias_name")


def _lowered(
    keys: list[str], aggregations: Sequence[Aggregation]
) -> tuple[list[tuple[str, str | None, str, float]], list[tuple[str, str]]]:
    """What the native plan takes: calls, and the columns that come out of keys and calls, as SQL."""
    calls: dict[Call, str] = {}
    outputs = [(key, quoted(key)) for key in keys]
    for aggregation in aggregations:
        letters = {}
        for letter, call in aggregation._calls.items():
            # The same number is not counted twice.
            letters[letter] = quoted(calls.setdefault(call, f"{call.function} {len(calls)} of a group"))
        name = aggregation._partials if isinstance(aggregation, OwnAggregation) else aggregation.name
        outputs.append((name, aggregation._sql.format(**letters)))
    named_calls = [(call.function, call.column, name, call.share) for call, name in calls.items()]
    return named_calls, outputs


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
