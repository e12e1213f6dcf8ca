"""What is computed by expressions, as methods of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _trees
from ._expr import Expr, tree_of
from ._from_pyarrow import expression_of as expression_of_pyarrow
from ._from_pyarrow import is_pyarrow
from ._keywords import COLUMN_HINTS, REMOTE_ARGS, Keywords, sql_of
from ._lowering import Steps, expression_of

if TYPE_CHECKING:
    from typing import Unpack

    from ._typed import ColumnHints
    from .dataset import Dataset


class Computed:
    """The methods of a dataset that compute columns by expressions."""

    _plan: Any
    _then: Callable[[Any], Dataset]

    def with_column(self, column_name: str, expr: Expr, **hints: Unpack[ColumnHints]) -> Dataset:
        """Adds or replaces a column by an expression over the others.

        Args:
            column_name: the column's name; one that is there is replaced where it stands.
            expr: an expression of :mod:`aktis.data.expressions`.
            hints: Ray's options of workers, which have no effect: the engine computes where rows are read.

        Returns:
            A dataset with the column.

        Raises:
            ValueError: the expression names a column that is not there, or its types do not fit together.

        >>> import aktis.data
        >>> from aktis.data.expressions import col
        >>> aktis.data.range(2).with_column("double", col("id") * 2).take_all()
        [{'id': 0, 'double': 0}, {'id': 1, 'double': 2}]
        """
        Keywords("with_column", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        return self._then(computed(self._plan, "with_column()", {column_name: expr}))

    def with_columns(self, exprs: Mapping[str, Expr], **hints: Unpack[ColumnHints]) -> Dataset:
        """Adds or replaces columns by expressions over those that are there before.

        Args:
            exprs: an expression for each name.
            hints: as for :meth:`with_column`.

        Returns:
            A dataset with the columns.

        Raises:
            ValueError: as for :meth:`with_column`.

        >>> import aktis.data
        >>> from aktis.data.expressions import col
        >>> aktis.data.range(1).with_columns({"a": col("id") + 1, "b": col("id") - 1}).take_all()
        [{'id': 0, 'a': 1, 'b': -1}]
        """
        Keywords("with_columns", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        return self._then(computed(self._plan, "with_columns()", exprs))


def computed(plan: Any, call: str, columns: Mapping[str, Expr]) -> Any:
    """The plan with these columns besides."""
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"{call}: the name of a column is text, not {name!r}")
    steps = Steps(plan)
    steps.compute({name: expression_of(f"{call}: {name!r}", expr) for name, expr in columns.items()})
    return steps.finished()


def filtered(plan: Any, call: str, predicate: Any) -> Any:
    """The plan with the rows for which an expression, of ours, of pyarrow or in SQL, is true."""
    if is_pyarrow(predicate):
        predicate = expression_of_pyarrow(predicate)
    if not isinstance(predicate, Expr):
        return plan.filter(sql_of(call, predicate))
    steps = Steps(plan)
    expression = steps.expression(tree_of(predicate))
    steps.plan = steps.plan.filter(expression)
    return steps.finished()


def selected(plan: Any, items: list[str | Expr]) -> Any:
    """The plan with columns by name and by expression, in this order."""
    steps = Steps(plan)
    named: dict[str, _trees.Tree] = {}
    #: Where each column comes from, and its name.
    columns: list[tuple[str, str]] = []
    for item in items:
        tree = tree_of(item) if isinstance(item, Expr) else _trees.Column(item)
        if isinstance(tree, _trees.Star):
            columns += [(name, name) for name in _known_columns(plan)]
        elif isinstance(tree, _trees.Column):
            columns.append((tree.name, tree.name))
        elif isinstance(tree, _trees.Alias):
            name = steps.new_name()
            named[name] = tree.operand
            columns.append((name, tree.name))
        else:
            raise ValueError(f"select_columns(): {item!r} needs a name: add .alias('name')")  # noqa: TRY004
    steps.compute(named)
    chosen = steps.plan.select([source for source, _ in columns])
    return chosen.rename([(source, name) for source, name in columns if source != name])


def _known_columns(plan: Any) -> list[str]:
    schema = plan.schema()
    if schema is None:
        raise ValueError(
            "select_columns(): star() needs columns that are known, and a function in between makes them known by a run only; "
            "use with_columns(), which keeps all columns"
        )
    return list(schema.names)
