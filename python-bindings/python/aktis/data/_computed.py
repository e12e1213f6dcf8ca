"""What is computed by expressions, as methods of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _expectations, _trees
from ._expr import Expr, tree_of
from ._from_pyarrow import expression_of as expression_of_pyarrow
from ._from_pyarrow import is_pyarrow
from ._keywords import COLUMN_HINTS, REMOTE_ARGS, Keywords, sql_of
from ._lowering import Steps, expression_of, type_of

if TYPE_CHECKING:
    from typing import Literal, Unpack

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

    def expect(
        self,
        expr: Expr | str,
        *,
        max_violations: float = 0,
        name: str | None = None,
        on_violation: Literal["raise", "warn"] = "raise",
    ) -> Dataset:
        """The same rows, which are expected to be as an expression says. They are judged as they pass by, without another pass.

        Args:
            expr: an expression of :mod:`aktis.data.expressions` or of pyarrow, or SQL as text. A row violates it that ``filter(expr=expr)``
                would leave out: if it is false, and also if it is null. ``expr | expr.is_null()`` lets nulls pass.
            max_violations: how many rows may violate it: a number of rows, or a ``float`` below 1, the share of all rows that come.
            name: for messages and :meth:`stats`; by default the expression.
            on_violation: what more violations mean. ``"raise"``: the job fails as soon as it is certain, also before all rows have
                come; what it had written is gone. ``"warn"``: all are counted, and a warning is logged at the end.

        Returns:
            A dataset of the same rows: those that violate it stay. Filters behind it do not change what is judged; of a limit behind it
            only the rows that it takes are.

        Raises:
            TypeError: the expression is none, or ``max_violations`` is no number.
            ValueError: the expression names a column that is not there, or gives neither true nor false; ``max_violations`` is below 0,
                or a float of 1 or more.
            ExpectationError: when the dataset runs, and more rows violate it; it names some of them.

        Example:
            >>> import aktis.data
            >>> from aktis.data.expressions import col
            >>> ds = aktis.data.from_items([{"score": 1.0}, {"score": None}, {"score": 3.0}])
            >>> ds.expect(col("score").is_not_null(), max_violations=1).count()
            3
            >>> ds.expect(col("score").is_not_null()).count()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            aktis.data._expectations.ExpectationError: expect(col('score').is_not_null()): 1 row of the 3 that came ... violates it, ...
        """
        most, share = _expectations.limit(max_violations)
        only_warns = _expectations.only_warns(on_violation)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"expect(): name is text, not {name!r}")
        told = {"most": most, "share": share, "only_warns": only_warns}
        return self._then(expected(self._plan, expr, name, told))

    def with_columns(
        self,
        exprs: Mapping[str, Expr] | Expr | None = None,
        *more_exprs: Mapping[str, Expr] | Expr,
        **hints: Unpack[ColumnHints],
    ) -> Dataset:
        """Adds or replaces columns by expressions over those that are there before.

        Args:
            exprs: an expression for each name, or :func:`aktis.data.expressions.unnest` of one, which makes several columns.
            more_exprs: more of these.
            hints: as for :meth:`with_column`.

        Returns:
            A dataset with the columns.

        Raises:
            TypeError: an argument is something else, or what is unnested is no dict of fixed names.
            ValueError: as for :meth:`with_column`; two of them give a column of one name; or the names of a dict are not known before
                rows are made.

        >>> import aktis.data
        >>> from aktis.data.expressions import col
        >>> aktis.data.range(1).with_columns({"a": col("id") + 1, "b": col("id") - 1}).take_all()
        [{'id': 0, 'a': 1, 'b': -1}]
        """
        Keywords("with_columns", harmless=COLUMN_HINTS, refused=REMOTE_ARGS).check(hints)
        given = [one for one in (exprs, *more_exprs) if one is not None]
        return self._then(computed(self._plan, "with_columns()", *given))


def computed(plan: Any, call: str, *given: Mapping[str, Expr] | Expr) -> Any:
    """The plan with these columns besides."""
    steps = Steps(plan)
    columns: dict[str, _trees.Tree] = {}
    for one in given:
        if isinstance(one, Expr) and isinstance(one._tree, _trees.Unnest):
            more = _fields_of(steps, one._tree.operand)
        elif isinstance(one, Mapping):
            more = {name: expression_of(f"{call}: {name!r}", expr) for name, expr in one.items()}
        else:
            raise TypeError(f"{call} takes a dict from name to expression, or unnest() of an expression, not {one!r}")
        for name, tree in more.items():
            if not isinstance(name, str):
                raise TypeError(f"{call}: the name of a column is text, not {name!r}")
            if name in columns:
                raise ValueError(f"{call}: two of its arguments give a column {name!r}")
            columns[name] = tree
    if columns:
        steps.compute(columns)
    return steps.finished()


def _fields_of(steps: Steps, operand: _trees.Tree) -> dict[str, _trees.Tree]:
    """What reads each field of a dict, which becomes a column on the way, so that it is computed once."""
    import pyarrow

    name = steps.new_name()
    steps.compute({name: operand})
    schema = steps.plan.schema()
    declared = operand.type if isinstance(operand, _trees.Udf) else None
    if schema is None and declared is None:
        raise ValueError(
            f"unnest({_trees.text_of(operand)}): its names are known only when rows are made: give the function a return_dtype, or "
            "materialize() the dataset before"
        )
    kind = type_of(declared) if schema is None else schema.field(name).type
    if not pyarrow.types.is_struct(kind):
        raise TypeError(f"unnest({_trees.text_of(operand)}): it is no dict of fixed names, but {kind}")
    fields = [kind.field(place).name for place in range(kind.num_fields)]
    if len(set(fields)) < len(fields):
        raise ValueError(f"unnest({_trees.text_of(operand)}): two of its fields have one name: {fields}")
    return {field: _trees.Call("get_field", (_trees.Column(name), _trees.Literal(field))) for field in fields}


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


def expected(plan: Any, expr: Any, name: str | None, told: Mapping[str, Any]) -> Any:
    """The plan whose rows are judged by an expression, of ours, of pyarrow or in SQL."""
    if is_pyarrow(expr):
        expr = expression_of_pyarrow(expr)
    if not isinstance(expr, Expr):
        text = sql_of("expect()", expr)
        return plan.expect(text, name=name or text, **told)
    steps = Steps(plan)
    tree = tree_of(expr)
    expression = steps.expression(tree)
    steps.plan = steps.plan.expect(expression, name=name or _trees.text_of(tree), **told)
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
        elif isinstance(tree, _trees.Unnest):
            raise TypeError(f"select_columns(): {item!r} stands for several columns: give it to with_columns()")
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
