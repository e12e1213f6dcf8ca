"""What an aggregation is: calls of the engine's functions, and an expression over their results."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow

    from ._expr import Expr

#: What is told by an aggregation is in its name: "sum" of "sum(x)".
_NAME = re.compile(r"^(\w+)\(.*\)$", re.DOTALL)


class Call(NamedTuple):
    """A function that workers compute for each group."""

    function: str
    column: str | None
    share: float = 0.0


#: All rows.
ALL = Call("count", None)


class Aggregation:
    """One column of results. Made by the classes of :mod:`aktis.data.aggregate`.

    >>> from aktis.data.aggregate import Sum
    >>> Sum("x").name
    'sum(x)'
    """

    #: The calls that it is made of, by a letter.
    _calls: dict[str, Call]
    #: SQL over these letters.
    _sql: str

    #: Columns that its calls look at and that are computed for them, by name.
    _computed: dict[str, Expr] | None = None

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
            self._calls = {**calls, "all": ALL, "count": Call("count", on)}
            self._sql = f"CASE WHEN {{count}} = {{all}} THEN {sql} END"

    def _over(self, columns: pyarrow.Schema | None) -> Aggregation:
        """The same over rows with these columns, as far as they are known."""
        return self

    def _named(self, name: str) -> Aggregation:
        """The same with another name of the result."""
        renamed = copy.copy(self)
        renamed.name = name
        return renamed

    def get_target_column(self) -> str | None:
        """The column that it looks at.

        Returns:
            Its name; ``None`` for whole rows.

        >>> from aktis.data.aggregate import Sum
        >>> Sum("x").get_target_column()
        'x'
        """
        return self._on

    def get_agg_name(self) -> str:
        """What it tells, without the column.

        Returns:
            The name of the result up to a parenthesis.

        >>> from aktis.data.aggregate import Sum
        >>> Sum("x").get_agg_name()
        'sum'
        """
        match = _NAME.match(self.name)
        return match.group(1) if match else self.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def named(kind: object, on: str | None, name: str | None, function: str) -> tuple[str, str]:
    """The column that is looked at, and the name of the result."""
    if not on or not isinstance(on, str):
        raise ValueError(
            f"{type(kind).__name__}() needs the name of a column: {type(kind).__name__}(on='...'), not {on!r}"
        )
    return on, name or f"{function}({on})"
