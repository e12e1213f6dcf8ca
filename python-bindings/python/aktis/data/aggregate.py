"""What can be told of groups of rows, for ``Dataset.aggregate`` and ``GroupedData.aggregate``.

Names and arguments are Ray Data's. NaN is a number here, greater than any other; null is what is missing.

    >>> import aktis.data
    >>> from aktis.data.aggregate import Count, Mean
    >>> aktis.data.range(10).aggregate(Count(), Mean("id", alias_name="middle"))
    {'count()': 10, 'middle': 4.5}
"""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """A function that workers compute for each group."""

    function: str
    column: str | None
    share: float = 0.0


_ALL = Call("count", None)


class Aggregation:
    """One column of results. Made by the classes of this module.

    >>> Sum("x").name
    'sum(x)'
    """

    #: The calls that it is made of, by a letter.
    _calls: dict[str, Call]
    #: SQL over these letters.
    _sql: str

    def __init__(
        self, name: str, on: str | None, calls: dict[str, Call], sql: str, *, ignore_nulls: bool = True
    ) -> None:
        if not name or not isinstance(name, str):
            raise ValueError(
                f"{type(self).__name__}: the name of the result must be a text that is not empty, not {name!r}"
            )
        self.name = name
        self._on = on
        self._calls, self._sql = calls, sql
        if not ignore_nulls:
            self._calls = {**calls, "all": _ALL, "count": Call("count", on)}
            self._sql = f"CASE WHEN {{count}} = {{all}} THEN {sql} END"

    def get_target_column(self) -> str | None:
        """The column that it looks at.

        Returns:
            Its name; ``None`` for whole rows.

        >>> Sum("x").get_target_column()
        'x'
        """
        return self._on

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def _named(kind: object, on: str | None, name: str | None, function: str) -> tuple[str, str]:
    """The column that is looked at, and the name of the result."""
    if not on or not isinstance(on, str):
        raise ValueError(
            f"{type(kind).__name__}() needs the name of a column: {type(kind).__name__}(on='...'), not {on!r}"
        )
    return on, name or f"{function}({on})"


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
        on, name = _named(self, on, alias_name, "count_distinct")
        calls = {"a": Call("count_distinct", on)}
        sql = "{a}"
        if not ignore_nulls:
            calls |= {"n": Call("count", on), "all": _ALL}
            sql = "{a} + CASE WHEN {n} < {all} THEN 1 ELSE 0 END"
        super().__init__(name, on, calls, sql)


class _OneCall(Aggregation):
    """What the engine has under one name."""

    _kind: str

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, self._kind)
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

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Min("id"))
    {'min(id)': 0}
    """

    _kind = "min"


class Max(_OneCall):
    """The greatest value: of numbers, texts, times; null where there is none.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``max(on)``.

    >>> import aktis.data
    >>> aktis.data.range(4).aggregate(Max("id"))
    {'max(id)': 3}
    """

    _kind = "max"


class AbsMax(Aggregation):
    """The greatest distance from zero; null where there is no value.

    Args:
        on: the column.
        ignore_nulls: ``False``: null if any value is.
        alias_name: the column of the result; by default ``abs_max(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": -3}, {"x": 2}]).aggregate(AbsMax("x"))
    {'abs_max(x)': 3}
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "abs_max")
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

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "mean")
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

    def __init__(self, on: str, ddof: int = 1, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "std")
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

    def __init__(self, on: str, q: float = 0.5, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "quantile")
        if not 0 <= q <= 1:
            raise ValueError(f"Quantile(q=...) must be from 0 to 1, not {q!r}")
        super().__init__(name, on, {"a": Call("quantile", on, float(q))}, "{a}", ignore_nulls=ignore_nulls)


class Unique(Aggregation):
    """The different values as a list, in any order.

    Args:
        on: the column.
        ignore_nulls: whether null is none of them.
        alias_name: the column of the result; by default ``unique(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": 1}]).aggregate(Unique("x"))
    {'unique(x)': [1]}
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "unique")
        function = "distinct_values" if ignore_nulls else "distinct"
        super().__init__(name, on, {"a": Call(function, on)}, "{a}")


class AsList(Aggregation):
    """All values as a list, in any order.

    Args:
        on: the column.
        ignore_nulls: whether nulls are left out.
        alias_name: the column of the result; by default ``list(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": 1}]).aggregate(AsList("x"))
    {'list(x)': [1, 1]}
    """

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "list")
        super().__init__(name, on, {"a": Call("list_values" if ignore_nulls else "list", on)}, "{a}")


class MissingValuePercentage(Aggregation):
    """Which percentage of the rows has a null, from 0 to 100; null where there is no row.

    Args:
        on: the column.
        alias_name: the column of the result; by default ``missing_pct(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": 1}, {"x": None}]).aggregate(MissingValuePercentage("x"))
    {'missing_pct(x)': 50.0}
    """

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        on, name = _named(self, on, alias_name, "missing_pct")
        calls = {"n": Call("count", on), "all": _ALL}
        super().__init__(name, on, calls, "CASE WHEN {all} > 0 THEN 100.0 * ({all} - {n}) / {all} END")


def quoted(name: str) -> str:
    """A name of a column in SQL.

    >>> print(quoted('a"b'))
    "a""b"
    """
    return '"' + name.replace('"', '""') + '"'


def lowered(
    keys: list[str], aggregations: tuple[Aggregation, ...]
) -> tuple[list[tuple[str, str | None, str, float]], list[tuple[str, str]]]:
    """What the native plan takes: calls, and the columns that come out of keys and calls, as SQL."""
    calls: dict[Call, str] = {}
    outputs = [(key, quoted(key)) for key in keys]
    for aggregation in aggregations:
        if not isinstance(aggregation, Aggregation):
            raise TypeError(
                f"aggregate() takes aggregations such as aktis.data.aggregate.Sum('x'), not {aggregation!r}; for a function of "
                "your own use groupby(...).map_groups()"
            )
        letters = {}
        for letter, call in aggregation._calls.items():
            # The same number is not counted twice.
            letters[letter] = quoted(calls.setdefault(call, f"{call.function} {len(calls)} of a group"))
        outputs.append((aggregation.name, aggregation._sql.format(**letters)))
    named = [(call.function, call.column, name, call.share) for call, name in calls.items()]
    return named, outputs
