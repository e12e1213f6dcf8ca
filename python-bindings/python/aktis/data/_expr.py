"""The expression itself: operators and methods. Made in :mod:`aktis.data.expressions`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _trees
from ._numbers import Numbers

if TYPE_CHECKING:
    from ._namespaces import (
        ArrayNamespace,
        DatetimeNamespace,
        ListNamespace,
        MapNamespace,
        StringNamespace,
        StructNamespace,
    )

#: Expressions have an attribute ``str``.
Text: TypeAlias = str


class Expr(Numbers):
    """What is computed from the columns of a row. Made by :func:`col`, :func:`lit`, operators and methods.

    >>> from aktis.data.expressions import col
    >>> (col("price") * col("count") - 1).alias("total")
    ((col('price') * col('count')) - 1).alias('total')
    """

    def __init__(self, _tree: _trees.Tree) -> None:
        self._tree = _tree

    def __repr__(self) -> Text:
        return _trees.text_of(self._tree)

    def __bool__(self) -> bool:
        raise TypeError(
            f"an expression is neither true nor false before it is computed: {self!r}. Write & for and, | for or, ~ for not, with "
            "brackets around comparisons: (col('a') > 1) & (col('a') < 5). For `in` there is is_in()"
        )

    def __contains__(self, _: Any) -> bool:
        return bool(self)

    def __iter__(self) -> Any:
        raise TypeError(f"an expression has no items: {self!r}. Items of lists are col(name).list[i]")

    # Its truth is refused, and so two of them are never told apart by a dict.
    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Expr:
        return _binary("+", self, other)

    def __radd__(self, other: Any) -> Expr:
        return _binary("+", other, self)

    def __sub__(self, other: Any) -> Expr:
        return _binary("-", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return _binary("-", other, self)

    def __mul__(self, other: Any) -> Expr:
        return _binary("*", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return _binary("*", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return _binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return _binary("/", other, self)

    def __floordiv__(self, other: Any) -> Expr:
        return _binary("//", self, other)

    def __rfloordiv__(self, other: Any) -> Expr:
        return _binary("//", other, self)

    def __mod__(self, other: Any) -> Expr:
        return _binary("%", self, other)

    def __rmod__(self, other: Any) -> Expr:
        return _binary("%", other, self)

    def __pow__(self, other: Any) -> Expr:
        return self.power(other)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return _binary("==", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return _binary("!=", self, other)

    def __lt__(self, other: Any) -> Expr:
        return _binary("<", self, other)

    def __le__(self, other: Any) -> Expr:
        return _binary("<=", self, other)

    def __gt__(self, other: Any) -> Expr:
        return _binary(">", self, other)

    def __ge__(self, other: Any) -> Expr:
        return _binary(">=", self, other)

    def __and__(self, other: Any) -> Expr:
        return _binary("&", self, other)

    def __rand__(self, other: Any) -> Expr:
        return _binary("&", other, self)

    def __or__(self, other: Any) -> Expr:
        return _binary("|", self, other)

    def __ror__(self, other: Any) -> Expr:
        return _binary("|", other, self)

    def __invert__(self) -> Expr:
        return Expr(_trees.Unary("~", self._tree))

    def __neg__(self) -> Expr:
        return self.negate()

    def __abs__(self) -> Expr:
        return self.abs()

    @property
    def name(self) -> Text | None:
        """The name of the column that it is, or that :meth:`alias` gave it.

        >>> from aktis.data.expressions import col
        >>> col("a").name, (col("a") + 1).name, (col("a") + 1).alias("b").name
        ('a', None, 'b')
        """
        return self._tree.name if isinstance(self._tree, (_trees.Column, _trees.Alias)) else None

    @property
    def str(self) -> StringNamespace:
        """What can be done with text.

        >>> from aktis.data.expressions import col
        >>> col("name").str.upper()
        upper(col('name'))
        """
        from ._namespaces import StringNamespace

        return StringNamespace(self)

    @property
    def list(self) -> ListNamespace:
        """What can be done with lists.

        >>> from aktis.data.expressions import col
        >>> col("tags").list[0]
        array_element(col('tags'), 1)
        """
        from ._namespaces import ListNamespace

        return ListNamespace(self)

    @property
    def struct(self) -> StructNamespace:
        """What can be done with dicts of fixed names.

        >>> from aktis.data.expressions import col
        >>> col("user").struct["name"]
        get_field(col('user'), 'name')
        """
        from ._namespaces import StructNamespace

        return StructNamespace(self)

    @property
    def dt(self) -> DatetimeNamespace:
        """What can be done with times.

        >>> from aktis.data.expressions import col
        >>> col("at").dt.year()
        date_part('year', col('at'))
        """
        from ._namespaces import DatetimeNamespace

        return DatetimeNamespace(self)

    @property
    def arr(self) -> ArrayNamespace:
        """What can be done with arrays of one size.

        >>> from aktis.data.expressions import col
        >>> col("features").arr.to_list()
        to_list(col('features'))
        """
        from ._namespaces import ArrayNamespace

        return ArrayNamespace(self)

    @property
    def map(self) -> MapNamespace:
        """What can be done with maps.

        >>> from aktis.data.expressions import col
        >>> col("attributes").map.keys()
        map_keys(col('attributes'))
        """
        from ._namespaces import MapNamespace

        return MapNamespace(self)

    def alias(self, name: Text) -> Expr:
        """The same under another name.

        Args:
            name: the name.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").alias("b")
        col('a').alias('b')
        """
        return Expr(_trees.Alias(self._tree, name))

    def structurally_equals(self, other: Any) -> bool:
        """Whether both are written alike; ``==`` makes an expression.

        Args:
            other: anything.

        Returns:
            True or False.

        >>> from aktis.data.expressions import col
        >>> (col("a") + 1).structurally_equals(col("a") + 1)
        True
        """
        return isinstance(other, Expr) and _trees.are_equal(self._tree, other._tree)

    def cast(self, target_type: Any, *, safe: bool = True) -> Expr:
        """The value as another type.

        Args:
            target_type: a type of pyarrow, its name, or ``int``, ``float``, ``str`` or ``bool``.
            safe: ``False``: null where the value does not fit. By default the job fails there.

        Returns:
            An expression. Fractions are cut off by types of whole numbers.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.range(2).with_column("text", col("id").cast("string")).take(1)
        [{'id': 0, 'text': '0'}]
        """
        return Expr(_trees.Cast(self._tree, target_type, not safe))

    def is_null(self) -> Expr:
        """Whether there is no value.

        Returns:
            An expression that is never null.

        >>> from aktis.data.expressions import col
        >>> col("a").is_null()
        col('a').is_null()
        """
        return Expr(_trees.Unary("is_null", self._tree))

    def is_not_null(self) -> Expr:
        """Whether there is a value.

        Returns:
            An expression that is never null.

        >>> from aktis.data.expressions import col
        >>> col("a").is_not_null()
        col('a').is_not_null()
        """
        return Expr(_trees.Unary("is_not_null", self._tree))

    def is_in(self, values: Iterable[Any] | Expr) -> Expr:
        """Whether it is one of some values; null is only if it is among them.

        Args:
            values: a list, a set, an array, or :func:`lit` of one.

        Returns:
            An expression that is never null.

        Raises:
            TypeError: the values are one text, or an expression that is not a list of values.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.range(9).filter(expr=col("id").is_in([2, 3, 11])).take_all()
        [{'id': 2}, {'id': 3}]
        """
        if isinstance(values, Expr):
            if not isinstance(values._tree, _trees.Literal):
                raise TypeError(f"is_in() takes values that are known, not {values!r}")
            values = values._tree.value
        if isinstance(values, (Text, bytes)) or not isinstance(values, Iterable):
            raise TypeError(f"is_in() takes a list of values, not {values!r}")
        return Expr(_trees.IsIn(self._tree, [*values]))

    def not_in(self, values: Iterable[Any] | Expr) -> Expr:
        """Whether it is none of some values.

        Args:
            values: as in :meth:`is_in`.

        Returns:
            An expression that is never null.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.range(3).filter(expr=col("id").not_in([1])).take_all()
        [{'id': 0}, {'id': 2}]
        """
        return ~self.is_in(values)

    def negate(self) -> Expr:
        """The number with the other sign, as ``-`` before it.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> -col("a")
        -col('a')
        """
        return Expr(_trees.Unary("-", self._tree))

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __getattr__(self, name: Text) -> Any:
            from aktis._messages.missing import explained

            raise AttributeError(explained("Expr", name, dir(type(self))))

    def _call(self, function: Text, *args: Any) -> Expr:
        return call(function, self, *args)


def tree_of(value: Any) -> _trees.Tree:
    """The tree of an expression; anything else is a value."""
    return value._tree if isinstance(value, Expr) else _trees.Literal(value)


def call(function: Text, *args: Any) -> Expr:
    """A function of the engine."""
    return Expr(_trees.Call(function, tuple(map(tree_of, args))))


def _binary(symbol: Text, left: Any, right: Any) -> Expr:
    return Expr(_trees.Binary(symbol, tree_of(left), tree_of(right)))
