"""What an expression is made of: plain values, without a dataset and without the native module.

>>> Binary("+", Column("a"), Literal(1))
Binary(symbol='+', left=Column(name='a'), right=Literal(value=1))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Tree:
    """A part of an expression, or the whole."""

    def parts(self) -> tuple[Any, ...]:
        """What it is made of, trees and others."""
        return tuple(vars(self).values())


@dataclass(frozen=True, eq=False)
class Column(Tree):
    """A column."""

    name: str


@dataclass(frozen=True, eq=False)
class Literal(Tree):
    """A value."""

    value: Any


@dataclass(frozen=True, eq=False)
class Star(Tree):
    """All columns."""


@dataclass(frozen=True, eq=False)
class Unnest(Tree):
    """Each field of a dict as a column."""

    operand: Tree


@dataclass(frozen=True, eq=False)
class Binary(Tree):
    """An operator between two, as Python writes it."""

    symbol: str
    left: Tree
    right: Tree


@dataclass(frozen=True, eq=False)
class Unary(Tree):
    """A test or a sign of one."""

    symbol: str
    operand: Tree


@dataclass(frozen=True, eq=False)
class Call(Tree):
    """A function of the engine, by its name in SQL."""

    function: str
    args: tuple[Tree, ...] = ()


@dataclass(frozen=True, eq=False)
class Cast(Tree):
    """Another type; ``is_try``: null where it does not fit."""

    operand: Tree
    type: Any
    is_try: bool = False


@dataclass(frozen=True, eq=False)
class IsIn(Tree):
    """Whether it is one of the values."""

    operand: Tree
    values: Any


@dataclass(frozen=True, eq=False)
class Like(Tree):
    """Whether a text is like a pattern of SQL."""

    operand: Tree
    pattern: str
    ignores_case: bool = False


@dataclass(frozen=True, eq=False)
class Alias(Tree):
    """Another name."""

    operand: Tree
    name: str


@dataclass(frozen=True, eq=False)
class Udf(Tree):
    """A function in Python over arrays of pyarrow."""

    function: Callable[..., Any]
    args: tuple[Tree, ...]
    kwargs: Mapping[str, Tree] = field(default_factory=dict)
    #: Of what the function returns; None: as it is.
    type: Any = None
    #: Arguments of the constructor, where the function is a class.
    constructor: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None


def are_equal(one: Any, other: Any) -> bool:
    """Whether both are the same, part by part.

    >>> are_equal(Binary("+", Column("a"), Literal(1)), Binary("+", Column("a"), Literal(1)))
    True
    >>> are_equal(Literal(1), Literal(1.0))
    False
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, Tree):
        return are_equal(one.parts(), other.parts())
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    return bool(one is other or one == other)


def text_of(tree: Tree) -> str:
    """As it is written in Python.

    >>> text_of(Binary("+", Column("a"), Literal(1)))
    "(col('a') + 1)"
    """
    match tree:
        case Column(name):
            return f"col({name!r})"
        case Literal(value):
            # pyarrow's own values are shown as what they hold.
            return repr(value.as_py() if hasattr(value, "as_py") else value)
        case Star():
            return "star()"
        case Unnest(operand):
            return f"unnest({text_of(operand)})"
        case Binary(symbol, left, right):
            return f"({text_of(left)} {symbol} {text_of(right)})"
        case Unary("~" | "-" as symbol, operand):
            return f"{symbol}{text_of(operand)}"
        case Unary(symbol, operand):
            return f"{text_of(operand)}.{symbol}()"
        case Alias(operand, name):
            return f"{text_of(operand)}.alias({name!r})"
        case Cast(operand, kind):
            return f"{text_of(operand)}.cast({str(kind)!r})"
        case IsIn(operand, values):
            return f"{text_of(operand)}.is_in({values!r})"
        case Like(operand, pattern):
            return f"{text_of(operand)}.str.match({pattern!r})"
        case Call(function, args):
            return f"{function}({', '.join(map(text_of, args))})"
        case Udf(function, args, kwargs):
            named = [f"{name}={text_of(arg)}" for name, arg in kwargs.items()]
            name = getattr(function, "__name__", None) or type(function).__name__
            return f"{name}({', '.join([*map(text_of, args), *named])})"
    raise TypeError(f"no part of an expression: {tree!r}")
