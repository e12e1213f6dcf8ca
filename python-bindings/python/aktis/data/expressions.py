"""Expressions over columns: computed without Python where the engine has the function, and in pyarrow where it has not.

    >>> import aktis.data
    >>> from aktis.data.expressions import col, lit
    >>> ds = aktis.data.from_items([{"name": "ada", "born": 1815}, {"name": "alan", "born": 1912}])
    >>> ds.filter(expr=col("born") > 1900).with_column("name", col("name").str.upper()).take_all()
    [{'name': 'ALAN', 'born': 1912}]

Names and meanings are those of Ray Data. Null in, null out, but for tests of null; ``&``, ``|`` and ``~`` are and, or and not.
"""

from __future__ import annotations

import inspect
import random as _random
from collections.abc import Callable
from typing import Any

from . import _trees
from ._expr import Expr, call, tree_of
from ._keywords import refuse_reseeding

__all__ = [
    "Expr",
    "col",
    "download",
    "lit",
    "monotonically_increasing_id",
    "pyarrow_udf",
    "random",
    "star",
    "udf",
    "unnest",
    "uuid",
]


def col(name: str) -> Expr:
    """The column of this name.

    Args:
        name: just as it is called, dots and capitals included.

    Returns:
        An expression.

    Raises:
        TypeError: the name is not text.

    >>> col("a") + 1
    (col('a') + 1)
    """
    if not isinstance(name, str):
        raise TypeError(f"col() takes the name of a column, not {name!r}")
    return Expr(_trees.Column(name))


def lit(value: Any) -> Expr:
    """A value, the same in every row. Beside an operator it need not be written: ``col("a") + 1``.

    Args:
        value: anything that is a value of a column: a number, text, a time, a list, None.

    Returns:
        An expression.

    >>> import aktis.data
    >>> aktis.data.range(1).with_column("kind", lit("a")).take_all()
    [{'id': 0, 'kind': 'a'}]
    """
    return Expr(tree_of(value))


def star() -> Expr:
    """All columns, for ``select_columns``.

    Returns:
        An expression that nothing can be computed of.

    >>> import aktis.data
    >>> aktis.data.range(1).select_columns([star(), (col("id") + 1).alias("next")]).take_all()
    [{'id': 0, 'next': 1}]
    """
    return Expr(_trees.Star())


def unnest(expr: Expr) -> Expr:
    """Each field of a dict of fixed names as a column of its name, for ``with_columns``. Fields that are dicts themselves stay whole.

    Args:
        expr: an expression of such dicts, whose names are known before rows are made: a column of a file, or a function with a
            ``return_dtype``. It is computed once.

    Returns:
        An expression that nothing can be computed of.

    Raises:
        TypeError: it is no expression, or ``unnest`` of one.

    >>> import aktis.data
    >>> ds = aktis.data.from_items([{"id": 1, "user": {"name": "ada", "born": 1815}}])
    >>> ds.with_columns(unnest(col("user"))).select_columns(["id", "name", "born"]).take_all()
    [{'id': 1, 'name': 'ada', 'born': 1815}]
    """
    if not isinstance(expr, Expr):
        raise TypeError(f"unnest() takes an expression, such as col('user'), not {expr!r}")
    if isinstance(expr._tree, _trees.Unnest):
        raise TypeError(
            "unnest() stands for several columns: unnest each of those that are dicts in another with_columns()"
        )
    return Expr(_trees.Unnest(expr._tree))


def monotonically_increasing_id() -> Expr:
    """A whole number of 64 bits that no other row has. Numbers rise within a block and leave gaps between blocks.

    Returns:
        An expression. Rows that are made again after a loss have the numbers that they had.

    >>> import aktis.data
    >>> aktis.data.range(2).with_column("row", monotonically_increasing_id()).take_all()
    [{'id': 0, 'row': 0}, {'id': 1, 'row': 1}]
    """
    return call("monotonically_increasing_id")


def random(*, seed: int | None = None, reseed_after_execution: bool = False) -> Expr:
    """A number of at least 0 and less than 1, drawn evenly for each row.

    Args:
        seed: the same seed gives the same numbers to the same rows of the same blocks. Without one it is drawn when this is called,
            and runs of one dataset agree.
        reseed_after_execution: Ray's; only ``False``, the default here.

    Returns:
        An expression.

    >>> import aktis.data
    >>> 0 <= aktis.data.range(1).with_column("draw", random(seed=1)).take(1)[0]["draw"] < 1
    True
    """
    refuse_reseeding("random", reseed_after_execution)
    return call("random_of", monotonically_increasing_id(), _seed(seed))


def uuid() -> Expr:
    """An identifier for each row, as text: a UUID of version 4.

    Returns:
        An expression. Runs of one dataset agree; each call of this function gives others.

    >>> import aktis.data
    >>> len(aktis.data.range(1).with_column("key", uuid()).take(1)[0]["key"])
    36
    """
    return call("uuid_of", monotonically_increasing_id(), _seed(None))


def _seed(seed: int | None) -> int:
    if seed is None:
        return _random.SystemRandom().getrandbits(63)
    return seed % 2**63


def download(uri_column_name: str, *, filesystem: Any = None) -> Expr:
    """The bytes of the files that a column names: paths, and URLs as :doc:`readers <data/reading>` take them.

    Many are read at once, by workers. What cannot be read is null, as in Ray Data, and a warning of the worker says how many and why.

    Args:
        uri_column_name: the column of names.
        filesystem: one of pyarrow.fs or of fsspec, in which all of them lie; by default their beginnings tell.

    Returns:
        An expression.

    >>> import aktis.data
    >>> files = aktis.data.from_items([{"uri": "/dev/null"}, {"uri": None}])
    >>> files.with_column("bytes", download("uri")).take_all()
    [{'uri': '/dev/null', 'bytes': b''}, {'uri': None, 'bytes': None}]
    """
    from ._downloading import Download

    return Expr(_trees.Udf(Download(filesystem), (col(uri_column_name)._tree,), type="binary"))


def udf(return_dtype: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function of expressions from a function over arrays of pyarrow, or from a class with such a ``__call__``.

    It runs in Python workers, over as many rows as are at hand, and gives one value per row.

    Args:
        return_dtype: the type of pyarrow, or its name, that results are brought to; by default they stay as they are.

    Returns:
        A decorator. Of a function it makes one that takes expressions and gives one; of a class one that takes the arguments of the
        constructor, which runs once per worker, and gives such a function.

    >>> import aktis.data, pyarrow.compute
    >>> @udf(return_dtype="int64")
    ... def double(numbers):
    ...     return pyarrow.compute.multiply(numbers, 2)
    >>> aktis.data.range(2).with_column("double", double(col("id")) + 1).take_all()
    [{'id': 0, 'double': 1}, {'id': 1, 'double': 3}]
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isclass(function):
            return lambda *args, **kwargs: _expression_of(function, return_dtype, (args, kwargs))
        return _expression_of(function, return_dtype, None)

    return decorate


def _expression_of(function: Callable[..., Any], return_dtype: Any, constructor: Any) -> Callable[..., Expr]:
    def make(*args: Any, **kwargs: Any) -> Expr:
        named = {name: tree_of(value) for name, value in kwargs.items()}
        return Expr(_trees.Udf(function, tuple(map(tree_of, args)), named, return_dtype, constructor))

    make.__name__ = getattr(function, "__name__", "udf")
    make.__doc__ = function.__doc__
    # For queries in SQL, which call it by a name of their own.
    make.of_expressions = (function, return_dtype, constructor)  # type: ignore[attr-defined]
    return make


def pyarrow_udf(return_dtype: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same as :func:`udf`, whose functions get arrays of pyarrow anyway.

    Args:
        return_dtype: as for :func:`udf`.

    Returns:
        A decorator.

    >>> @pyarrow_udf(return_dtype="string")
    ... def upper(texts):
    ...     return pyarrow.compute.utf8_upper(texts)
    >>> upper(col("name"))
    upper(col('name'))
    """
    return udf(return_dtype)


# Of modules with a path Python asks whether the name is a module, when it is imported from here and not there: that is told what to do instead.
__path__: list[str] = []

# As type checkers know it; they must not think that any name is there.
TYPE_CHECKING = False
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
