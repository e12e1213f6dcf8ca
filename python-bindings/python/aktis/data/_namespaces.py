"""What can be done with text, lists, dicts, times, arrays and maps: ``col(name).str.upper()`` and its like.

Where the engine has the function, with the same meaning as pyarrow's, it computes it. Elsewhere pyarrow does, in Python workers, as
with :func:`aktis.data.expressions.udf`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from . import _trees
from ._expr import Expr, call, tree_of

Text: TypeAlias = str
#: Namespaces have methods of that name.
Slice: TypeAlias = slice
Unit = Literal[
    "year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond"
]
_SPACES = " \t\n\r\x0b\x0c"


class Pyarrow:
    """A function of :mod:`pyarrow.compute`, by its name."""

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.__name__ = name
        self.args = args
        self.kwargs = kwargs

    def __call__(self, array: Any) -> Any:
        import pyarrow.compute

        return getattr(pyarrow.compute, self.__name__)(array, *self.args, **self.kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pyarrow) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class _Namespace:
    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def _pyarrow(self, function: Text, *args: Any, **kwargs: Any) -> Expr:
        return self._python(Pyarrow(function, *args, **kwargs))

    def _python(self, function: Any) -> Expr:
        return Expr(_trees.Udf(function, (tree_of(self._expr),)))


class StringNamespace(_Namespace):
    """Functions of text.

    >>> import aktis.data
    >>> from aktis.data.expressions import col
    >>> ds = aktis.data.from_items([{"name": "ada"}])
    >>> ds.with_columns({"long": col("name").str.len() > 3, "title": col("name").str.title()}).take_all()
    [{'name': 'ada', 'long': False, 'title': 'Ada'}]
    """

    def len(self) -> Expr:
        """Characters."""
        return call("character_length", self._expr).cast("int32")

    def byte_len(self) -> Expr:
        """Bytes in UTF-8."""
        return call("octet_length", self._expr).cast("int32")

    def upper(self) -> Expr:
        """All capitals."""
        return call("upper", self._expr)

    def lower(self) -> Expr:
        """No capitals."""
        return call("lower", self._expr)

    def capitalize(self) -> Expr:
        """The first character a capital, the others not."""
        return self._pyarrow("utf8_capitalize")

    def title(self) -> Expr:
        """The first character of each word a capital."""
        return self._pyarrow("utf8_title")

    def swapcase(self) -> Expr:
        """Capitals for others and others for capitals."""
        return self._pyarrow("utf8_swapcase")

    def is_alpha(self) -> Expr:
        """Whether it is letters only."""
        return self._pyarrow("utf8_is_alpha")

    def is_alnum(self) -> Expr:
        """Whether it is letters and digits only."""
        return self._pyarrow("utf8_is_alnum")

    def is_digit(self) -> Expr:
        """Whether it is digits only."""
        return self._pyarrow("utf8_is_digit")

    def is_decimal(self) -> Expr:
        """Whether it is decimal digits only."""
        return self._pyarrow("utf8_is_decimal")

    def is_numeric(self) -> Expr:
        """Whether it is numeric characters only."""
        return self._pyarrow("utf8_is_numeric")

    def is_space(self) -> Expr:
        """Whether it is white space only."""
        return self._pyarrow("utf8_is_space")

    def is_lower(self) -> Expr:
        """Whether it has letters, and no capitals."""
        return self._pyarrow("utf8_is_lower")

    def is_upper(self) -> Expr:
        """Whether it has letters, and all are capitals."""
        return self._pyarrow("utf8_is_upper")

    def is_title(self) -> Expr:
        """Whether just the first letters of words are capitals."""
        return self._pyarrow("utf8_is_title")

    def is_printable(self) -> Expr:
        """Whether all of it can be shown."""
        return self._pyarrow("utf8_is_printable")

    def is_ascii(self) -> Expr:
        """Whether all of it is ASCII."""
        return self._pyarrow("string_is_ascii")

    def starts_with(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Whether it begins with ``pattern``."""
        if ignore_case:
            return self._pyarrow("starts_with", pattern, ignore_case=True)
        return call("starts_with", self._expr, pattern)

    def ends_with(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Whether it ends with ``pattern``."""
        if ignore_case:
            return self._pyarrow("ends_with", pattern, ignore_case=True)
        return call("ends_with", self._expr, pattern)

    def contains(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Whether ``pattern`` occurs in it."""
        if ignore_case:
            return self._pyarrow("match_substring", pattern, ignore_case=True)
        return call("contains", self._expr, pattern)

    def match(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Whether it is like a pattern of SQL, where ``%`` is any text and ``_`` any character."""
        return Expr(_trees.Like(tree_of(self._expr), pattern, ignore_case))

    def find(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Where ``pattern`` first occurs, in bytes; -1: nowhere."""
        return self._pyarrow("find_substring", pattern, ignore_case=ignore_case)

    def count(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """How often ``pattern`` occurs."""
        return self._pyarrow("count_substring", pattern, ignore_case=ignore_case)

    def find_regex(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Where the regular expression first matches, in bytes; -1: nowhere."""
        return self._pyarrow("find_substring_regex", pattern, ignore_case=ignore_case)

    def count_regex(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """How often the regular expression matches."""
        return self._pyarrow("count_substring_regex", pattern, ignore_case=ignore_case)

    def match_regex(self, pattern: Text, *, ignore_case: bool = False) -> Expr:
        """Whether the regular expression matches anywhere in it."""
        return self._pyarrow("match_substring_regex", pattern, ignore_case=ignore_case)

    def reverse(self) -> Expr:
        """The characters from the last to the first."""
        return self._pyarrow("utf8_reverse")

    def slice(self, start: int, stop: int | None = None, step: int = 1) -> Expr:
        """The characters from ``start`` to before ``stop``, as Python's slices."""
        return self._pyarrow("utf8_slice_codeunits", start, stop, step)

    def replace(self, pattern: Text, replacement: Text, *, max_replacements: int | None = None) -> Expr:
        """With ``replacement`` where ``pattern`` was."""
        if max_replacements is None and pattern:
            return call("replace", self._expr, pattern, replacement)
        return self._pyarrow("replace_substring", pattern, replacement, max_replacements=max_replacements)

    def replace_regex(self, pattern: Text, replacement: Text, *, max_replacements: int | None = None) -> Expr:
        """With ``replacement`` where the regular expression matched."""
        return self._pyarrow("replace_substring_regex", pattern, replacement, max_replacements=max_replacements)

    def replace_slice(self, start: int, stop: int, replacement: Text) -> Expr:
        """With ``replacement`` in the place of the bytes from ``start`` to before ``stop``."""
        return self._pyarrow("binary_replace_slice", start, stop, replacement)

    def split(self, pattern: Text, *, max_splits: int | None = None, reverse: bool = False) -> Expr:
        """The list of what stands between the occurrences of ``pattern``."""
        return self._pyarrow("split_pattern", pattern, max_splits=max_splits, reverse=reverse)

    def split_regex(self, pattern: Text, *, max_splits: int | None = None, reverse: bool = False) -> Expr:
        """The list of what stands between the matches of the regular expression."""
        return self._pyarrow("split_pattern_regex", pattern, max_splits=max_splits, reverse=reverse)

    def split_whitespace(self, *, max_splits: int | None = None, reverse: bool = False) -> Expr:
        """The list of words."""
        return self._pyarrow("utf8_split_whitespace", max_splits=max_splits, reverse=reverse)

    def extract(self, pattern: Text) -> Expr:
        """What the named groups of the regular expression match, as a dict."""
        return self._pyarrow("extract_regex", pattern)

    def repeat(self, n: int) -> Expr:
        """The text ``n`` times."""
        return self._pyarrow("binary_repeat", n)

    def center(self, width: int, padding: Text = " ") -> Expr:
        """In the middle of ``width`` characters."""
        return self._pyarrow("utf8_center", width, padding)

    def strip(self, characters: Text | None = None) -> Expr:
        """Without white space, or these characters, at both ends."""
        return call("btrim", self._expr, _SPACES if characters is None else characters)

    def lstrip(self, characters: Text | None = None) -> Expr:
        """Without white space, or these characters, at its beginning."""
        return call("ltrim", self._expr, _SPACES if characters is None else characters)

    def rstrip(self, characters: Text | None = None) -> Expr:
        """Without white space, or these characters, at its end."""
        return call("rtrim", self._expr, _SPACES if characters is None else characters)

    def lpad(self, width: int, padding: Text = " ") -> Expr:
        """Filled up to ``width`` characters at the left."""
        return self.pad(width, padding, "left")

    def rpad(self, width: int, padding: Text = " ") -> Expr:
        """Filled up to ``width`` characters at the right."""
        return self.pad(width, padding, "right")

    def pad(self, width: int, fillchar: Text = " ", side: Literal["left", "right", "both"] = "right") -> Expr:
        """Filled up to ``width`` characters."""
        functions = {"left": "utf8_lpad", "right": "utf8_rpad", "both": "utf8_center"}
        if side not in functions:
            raise ValueError(f"side must be 'left', 'right' or 'both', not {side!r}")
        return self._pyarrow(functions[side], width, fillchar)


class ListNamespace(_Namespace):
    """Functions of lists.

    >>> import aktis.data
    >>> from aktis.data.expressions import col
    >>> ds = aktis.data.from_items([{"tags": ["b", "a"]}])
    >>> ds.with_columns({"first": col("tags").list[0], "tags": col("tags").list.sort()}).take_all()
    [{'tags': ['a', 'b'], 'first': 'b'}]
    """

    def __getitem__(self, key: int | Slice) -> Expr:
        if isinstance(key, slice):
            return self.slice(key.start, key.stop, key.step)
        return self.get(key)

    def len(self) -> Expr:
        """Items."""
        return self._pyarrow("list_value_length")

    def get(self, index: int) -> Expr:
        """The item at ``index``, from the end if it is negative; null where there is none."""
        if not isinstance(index, int):
            raise TypeError(f"an item of a list has a whole number, not {index!r}")
        return call("array_element", self._expr, index + 1 if index >= 0 else index)

    def slice(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> Expr:
        """The items from ``start`` to before ``stop``; neither may be negative."""
        return self._pyarrow("list_slice", start or 0, stop, step or 1)

    def sort(
        self,
        order: Literal["ascending", "descending"] = "ascending",
        null_placement: Literal["at_start", "at_end"] = "at_end",
    ) -> Expr:
        """The items in order."""
        orders = {"ascending": "ASC", "descending": "DESC"}
        places = {"at_start": "NULLS FIRST", "at_end": "NULLS LAST"}
        if order not in orders or null_placement not in places:
            raise ValueError(f"list.sort(): order is one of {[*orders]}, null_placement one of {[*places]}")
        return call("array_sort", self._expr, orders[order], places[null_placement])

    def flatten(self) -> Expr:
        """The items of the lists in it."""
        return call("flatten", self._expr)

    def sum(self) -> Expr:
        """The sum of the numbers in it; 0 where there is none."""
        return self._python(sum_of_lists)


class StructNamespace(_Namespace):
    """Functions of dicts with fixed names.

    >>> import aktis.data
    >>> from aktis.data.expressions import col
    >>> ds = aktis.data.from_items([{"user": {"name": "ada"}}])
    >>> ds.with_column("name", col("user").struct["name"]).take_all()
    [{'user': {'name': 'ada'}, 'name': 'ada'}]
    """

    def __getitem__(self, name: Text) -> Expr:
        return self.field(name)

    def field(self, name: Text) -> Expr:
        """The value under a name."""
        return call("get_field", self._expr, name)

    def field_by_index(self, index: int) -> Expr:
        """The value under the name in this place, from 0."""
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ValueError(f"the place of a field is a whole number of at least 0, not {index!r}")
        return self._pyarrow("struct_field", index)


class DatetimeNamespace(_Namespace):
    """Functions of times.

    >>> import aktis.data, datetime
    >>> from aktis.data.expressions import col
    >>> ds = aktis.data.from_items([{"at": datetime.datetime(2026, 5, 1, 12)}])
    >>> ds.with_columns({"at": col("at").dt.floor("month"), "hour": col("at").dt.hour()}).take_all()
    [{'at': datetime.datetime(2026, 5, 1, 0, 0), 'hour': 12}]
    """

    def _part(self, name: Text) -> Expr:
        return call("date_part", name, self._expr)

    def year(self) -> Expr:
        """The year."""
        return self._part("year")

    def month(self) -> Expr:
        """The month, from 1."""
        return self._part("month")

    def day(self) -> Expr:
        """The day of the month, from 1."""
        return self._part("day")

    def hour(self) -> Expr:
        """The hour."""
        return self._part("hour")

    def minute(self) -> Expr:
        """The minute."""
        return self._part("minute")

    def second(self) -> Expr:
        """The second."""
        return self._part("second")

    def strftime(self, fmt: Text) -> Expr:
        """As text, by the codes of :func:`time.strftime`."""
        return self._pyarrow("strftime", format=fmt)

    def floor(self, unit: Unit) -> Expr:
        """The beginning of the unit."""
        return self._pyarrow("floor_temporal", 1, unit)

    def ceil(self, unit: Unit) -> Expr:
        """The beginning of the next unit, as ``pyarrow.compute.ceil_temporal`` has it."""
        return self._pyarrow("ceil_temporal", 1, unit)

    def round(self, unit: Unit) -> Expr:
        """The nearest beginning of a unit."""
        return self._pyarrow("round_temporal", 1, unit)


class ArrayNamespace(_Namespace):
    """Functions of arrays of one size.

    >>> from aktis.data.expressions import col
    >>> col("features").arr.to_list()
    to_list(col('features'))
    """

    def to_list(self) -> Expr:
        """As lists of any length."""
        return self._python(to_list)

    def flatten(self) -> Expr:
        """The items of the lists in it."""
        return call("flatten", self.to_list())


class MapNamespace(_Namespace):
    """Functions of maps.

    >>> from aktis.data.expressions import col
    >>> col("attributes").map.keys().list.len()
    list_value_length(map_keys(col('attributes')))
    """

    def keys(self) -> Expr:
        """The list of keys."""
        return call("map_keys", self._expr)

    def values(self) -> Expr:
        """The list of values."""
        return call("map_values", self._expr)


def to_list(array: Any) -> Any:
    """Arrays of one size as lists.

    >>> import pyarrow
    >>> to_list(pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.int64(), 2))).type
    ListType(list<item: int64>)
    """
    import pyarrow

    kind = array.type
    if pyarrow.types.is_fixed_size_list(kind):
        return array.cast(pyarrow.list_(kind.value_type))
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return array
    raise TypeError(f"to_list() can only be called on list-like columns, not on {kind}")


def sum_of_lists(array: Any) -> Any:
    """The sum of the numbers of each list.

    >>> import pyarrow
    >>> sum_of_lists(pyarrow.array([[1, 2], [], None, [None, 3]])).to_pylist()
    [3, 0, None, 3]
    """
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    lists = to_list(array)
    values = lists.flatten()
    if pyarrow.types.is_boolean(values.type) or not pyarrow.types.is_primitive(values.type):
        raise TypeError(f"list.sum() is for lists of numbers, not {lists.type}")
    table = pyarrow.table({"row": compute.list_parent_indices(lists), "value": values})
    sums = table.group_by("row").aggregate([("value", "sum")])
    places = compute.index_in(pyarrow.array(range(len(lists)), pyarrow.int64()), sums["row"].combine_chunks())
    found = sums["value_sum"].combine_chunks().take(places)
    whole = compute.fill_null(found, pyarrow.scalar(0, found.type))
    return compute.if_else(lists.is_null(), pyarrow.scalar(None, found.type), whole)
