"""Aggregations of the user's own, and those of Ray's that the engine has no function for."""

from __future__ import annotations

import abc
import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import _batches
from ._aggregation import Aggregation, Call, named


class OwnAggregation(Aggregation):
    """What is told by Python, of any rows of a group and of what was told of others."""

    def __init__(self, name: str, on: str | None) -> None:
        #: The column that partial results travel in.
        self._partials = f"aktis: partial results of {name}"
        super().__init__(name, on, {"a": Call("list_values", self._partials)}, "{a}")

    def _named(self, name: str) -> Aggregation:
        renamed = copy.copy(self)
        OwnAggregation.__init__(renamed, name, self._on)
        return renamed

    @abc.abstractmethod
    def _first(self, key: Any) -> Any:
        """What an accumulator of no rows is, in the group of this key."""

    @abc.abstractmethod
    def _of_rows(self, key: Any, table: Any) -> Any:
        """An accumulator of some rows of the group of this key."""

    @abc.abstractmethod
    def _merged(self, one: Any, other: Any) -> Any:
        """An accumulator of the rows of two."""

    @abc.abstractmethod
    def _result(self, accumulator: Any) -> Any:
        """What is told in the end."""


class AggregateFn(OwnAggregation):
    """An aggregation of your own, made of functions.

    Args:
        init: from the key of a group (a tuple, if there are several keys) to what an accumulator is before the first row.
        merge: from two accumulators to one.
        name: the column of the result.
        accumulate_row: from an accumulator and a row, a dict, to an accumulator.
        accumulate_block: from an accumulator and rows of one group, an Arrow table, to an accumulator; either this or
            ``accumulate_row``.
        finalize: from the last accumulator to the result; by default it is the result.

    >>> import aktis.data
    >>> longest = AggregateFn(
    ...     init=lambda key: "", accumulate_row=lambda longest, row: max(longest, row["word"], key=len),
    ...     merge=lambda one, other: max(one, other, key=len), name="longest",
    ... )
    >>> aktis.data.from_items([{"word": "a"}, {"word": "ray"}]).aggregate(longest)
    {'longest': 'ray'}
    """

    def __init__(
        self,
        init: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any],
        name: str,
        accumulate_row: Callable[[Any, dict[str, Any]], Any] | None = None,
        accumulate_block: Callable[[Any, Any], Any] | None = None,
        finalize: Callable[[Any], Any] | None = None,
    ) -> None:
        if (accumulate_row is None) == (accumulate_block is None):
            raise ValueError("AggregateFn() needs either accumulate_row or accumulate_block")
        if not isinstance(name, str):
            raise TypeError(f"AggregateFn(): the name of the result is text, not {name!r}")
        super().__init__(name, None)
        self._init, self._merge, self._finalize = init, merge, finalize
        self._accumulate = accumulate_block or _by_rows(accumulate_row)

    def _first(self, key: Any) -> Any:
        return self._init(key)

    def _of_rows(self, key: Any, table: Any) -> Any:
        return self._accumulate(self._init(key), table)

    def _merged(self, one: Any, other: Any) -> Any:
        return self._merge(one, other)

    def _result(self, accumulator: Any) -> Any:
        return accumulator if self._finalize is None else self._finalize(accumulator)


def _by_rows(accumulate_row: Callable[[Any, dict[str, Any]], Any] | None) -> Callable[[Any, Any], Any]:
    def accumulate(accumulator: Any, table: Any) -> Any:
        assert accumulate_row is not None, "one of the two is given"
        for row in _batches.rows_of(_batches._one_batch(table)):
            accumulator = accumulate_row(accumulator, row)
        return accumulator

    return accumulate


class AggregateFnV2(OwnAggregation):
    """An aggregation of your own, as a class: of each part of a group ``aggregate_block`` makes an accumulator, ``combine``
    makes one of two, and ``finalize`` the result.

    Args:
        name: the column of the result.
        zero_factory: makes the accumulator of no rows.
        on: the column that it looks at; ``None``: whole rows. Others are not even read, if no aggregation needs them.
        ignore_nulls: what an accumulator of ``None`` means: ``True``, that there was nothing to tell, so that the other one holds;
            ``False``, that there is no result.

    >>> import aktis.data
    >>> class Longest(AggregateFnV2):
    ...     def __init__(self, on):
    ...         super().__init__(f"longest({on})", lambda: 0, on=on, ignore_nulls=True)
    ...     def aggregate_block(self, block):
    ...         return max(map(len, block[self.get_target_column()].to_pylist()))
    ...     def combine(self, current_accumulator, new):
    ...         return max(current_accumulator, new)
    >>> aktis.data.from_items([{"word": "a"}, {"word": "ray"}]).aggregate(Longest("word"))
    {'longest(word)': 3}
    """

    def __init__(self, name: str, zero_factory: Callable[[], Any], *, on: str | None, ignore_nulls: bool) -> None:
        super().__init__(name, on)
        self._target_col_name, self._ignore_nulls = on, ignore_nulls
        self._zero_factory = zero_factory

    @abc.abstractmethod
    def aggregate_block(self, block: Any) -> Any:
        """What is told of some rows of a group.

        Args:
            block: an Arrow table with some rows of a group, at least one.

        Returns:
            An accumulator.
        """

    @abc.abstractmethod
    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """One accumulator of two.

        Args:
            current_accumulator: of some rows.
            new: of others.

        Returns:
            An accumulator of all of them.
        """

    def finalize(self, accumulator: Any) -> Any:
        """The result.

        Args:
            accumulator: of all rows of a group; never ``None``, which is the result as it is.

        Returns:
            By default the accumulator.
        """
        return accumulator

    def _first(self, key: Any) -> Any:
        return None if self._ignore_nulls else self._zero_factory()

    def _of_rows(self, key: Any, table: Any) -> Any:
        return self.aggregate_block(table)

    def _merged(self, one: Any, other: Any) -> Any:
        if one is None or other is None:
            return (other if one is None else one) if self._ignore_nulls else None
        return self.combine(one, other)

    def _result(self, accumulator: Any) -> Any:
        return None if accumulator is None else self.finalize(accumulator)


class ValueCounter(AggregateFnV2):
    """How often each value is there, null among them: a dict of ``values`` and ``counts``, in any order.

    Args:
        on: the column.
        alias_name: the column of the result; by default ``value_counter(on)``.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": "a"}, {"x": "b"}, {"x": "a"}]).aggregate(ValueCounter("x"))
    {'value_counter(x)': {'values': ['a', 'b'], 'counts': [2, 1]}}
    """

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        on, name = named(self, on, alias_name, "value_counter")
        super().__init__(name, dict, on=on, ignore_nulls=True)

    def aggregate_block(self, block: Any) -> Any:
        """A dict from the pickled value to how often it is there.

        Args:
            block: an Arrow table.

        Returns:
            A dict.

        >>> import pyarrow
        >>> ValueCounter("x").aggregate_block(pyarrow.table({"x": [1, 1]}))
        {1: 2}
        """
        return _counts(block.column(self._target_col_name))

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """Both counts together.

        Args:
            current_accumulator: a dict.
            new: a dict.

        Returns:
            A dict.

        >>> ValueCounter("x").combine({1: 2}, {1: 1, 3: 1})
        {1: 3, 3: 1}
        """
        for value, count in new.items():
            current_accumulator[value] = current_accumulator.get(value, 0) + count
        return current_accumulator

    def finalize(self, accumulator: Any) -> Any:
        """The values and how often they are there.

        Args:
            accumulator: a dict.

        Returns:
            A dict of two lists.

        >>> ValueCounter("x").finalize({1: 3})
        {'values': [1], 'counts': [3]}
        """
        return {"values": [_thawed(value) for value in accumulator], "counts": list(accumulator.values())}


class ApproximateTopK(AggregateFnV2):
    """The values that are there most often: a list of dicts of the value, by the name of the column, and ``count``; the most
    frequent first. Exact while a group has no more different values than are kept; beyond, counts are too low by at most the number
    of rows divided by that. Null is none of the values.

    Args:
        on: the column.
        k: how many values.
        log_capacity: the logarithm to base 2 of how many different values are kept.
        alias_name: the column of the result; by default ``approx_topk(on)``.
        encode_lists: whether the items of lists are counted instead of the lists.

    >>> import aktis.data
    >>> aktis.data.from_items([{"x": "a"}, {"x": "b"}, {"x": "a"}]).aggregate(ApproximateTopK("x", k=1))
    {'approx_topk(x)': [{'x': 'a', 'count': 2}]}
    """

    def __init__(
        self, on: str, k: int, log_capacity: int = 15, alias_name: str | None = None, encode_lists: bool = False
    ) -> None:
        on, name = named(self, on, alias_name, "approx_topk")
        for what, number in (("k", k), ("log_capacity", log_capacity)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"ApproximateTopK({what}=...) must be a whole number of at least 1, not {number!r}")
        super().__init__(name, dict, on=on, ignore_nulls=True)
        self.k = k
        self._most = 1 << log_capacity
        self._encode_lists = encode_lists

    def aggregate_block(self, block: Any) -> Any:
        """A dict from values to how often they are there.

        Args:
            block: an Arrow table.

        Returns:
            A dict.

        >>> import pyarrow
        >>> ApproximateTopK("x", 2).aggregate_block(pyarrow.table({"x": ["a", None, "a"]}))
        {'a': 2}
        """
        import pyarrow

        column = block.column(self._target_col_name)
        if self._encode_lists and (pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)):
            column = pyarrow.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        return self._kept(_counts(column.drop_null()))

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """Both counts together.

        Args:
            current_accumulator: a dict.
            new: a dict.

        Returns:
            A dict of the values that are kept.

        >>> ApproximateTopK("x", 2).combine({"a": 2}, {"a": 1})
        {'a': 3}
        """
        return self._kept(dict(Counter(current_accumulator) + Counter(new)))

    def _kept(self, counts: dict[Any, int]) -> dict[Any, int]:
        """As Misra and Gries have it, and Agarwal et al. for summaries that are merged (Mergeable Summaries, 2012): what all
        have in common with the first that is not kept is taken off."""
        if len(counts) <= self._most:
            return counts
        less = sorted(counts.values(), reverse=True)[self._most]
        return {value: count - less for value, count in counts.items() if count > less}

    def finalize(self, accumulator: Any) -> Any:
        """The values that are there most often.

        Args:
            accumulator: a dict.

        Returns:
            A list of dicts.

        >>> ApproximateTopK("x", 1).finalize({"a": 1, "b": 2})
        [{'x': 'b', 'count': 2}]
        """
        most = sorted(accumulator.items(), key=lambda item: -item[1])[: self.k]
        return [{str(self._target_col_name): _thawed(value), "count": count} for value, count in most]


def _counts(column: Any) -> dict[Any, int]:
    """How often each value of an Arrow column is there, by values that can be keys."""
    import pyarrow
    from pyarrow import types

    if types.is_nested(column.type):
        return dict(Counter(map(_frozen, column.to_pylist())))
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    counts = pyarrow.chunked_array(column.chunks, column.type).value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


class _Frozen(tuple[Any, ...]):
    """A list or a dict as a key."""

    __slots__ = ()


def _frozen(value: Any) -> Any:
    """A value of a nested column as a key.

    >>> _thawed(_frozen({"a": [1, 2]}))
    {'a': [1, 2]}
    """
    if isinstance(value, list):
        return _Frozen(("list", *map(_frozen, value)))
    if isinstance(value, dict):
        return _Frozen(("dict", *((key, _frozen(inner)) for key, inner in value.items())))
    return value


def _thawed(value: Any) -> Any:
    if not isinstance(value, _Frozen):
        return value
    kind, *inner = value
    return [_thawed(each) for each in inner] if kind == "list" else {key: _thawed(each) for key, each in inner}
