"""Queries that name themselves, ``WITH RECURSIVE``: rounds, each of which is a job, until one has no rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native, _parts

if TYPE_CHECKING:
    from .dataset import MaterializedDataset

#: A query that has not come to its end by then never will, most likely.
MOST_ROUNDS = 10_000


class Halves(NamedTuple):
    """A query that names itself, as texts."""

    name: str
    #: Empty: those of ``start``.
    columns: list[str]
    start: str
    step: str
    is_distinct: bool


class Recursion:
    """The rows of such a query, made when they are needed."""

    def __init__(self, halves: Halves, tables: Sequence[tuple[str, Any]], functions: Sequence[Any]) -> None:
        self._halves = halves
        self._tables = list(tables)
        self._functions = list(functions)

    def outline(self) -> Any:
        start = self._start(self._tables)
        return start.union([self._step(self._tables, start)])

    def settled(self) -> Any:
        tables = [(name, _native.settled(plan)) for name, plan in self._tables]
        start = self._start(tables)
        schema = start.union([self._step(tables, start)]).schema()
        found: list[_parts.Part] = []
        plan = self._once("select distinct * from new", new=start)
        for _ in range(MOST_ROUNDS):
            new = _materialized(plan)
            if not _parts.rows_of(new._parts):
                return _parts.plan_of(schema, found)
            found.extend(new._parts)
            plan = self._step(tables, _parts.plan_of(schema, new._parts))
            plan = self._once(
                "select distinct * from new except select * from found", new=plan, found=_parts.plan_of(schema, found)
            )
        raise RuntimeError(
            f"sql(): the query {self._halves.name!r}, which names itself, still has rows after {MOST_ROUNDS} rounds: give its step a "
            "condition that ends it, or write UNION for UNION ALL, so that rows that were there do not come again"
        )

    def _once(self, query: str, *, new: Any, **others: Any) -> Any:
        """Each row once, if that is asked for."""
        return _native.plan().sql(query, [("new", new), *others.items()], []) if self._halves.is_distinct else new

    def _start(self, tables: list[tuple[str, Any]]) -> Any:
        return self._sql(self._halves.start, self._halves.columns, tables)

    def _step(self, tables: list[tuple[str, Any]], last: Any) -> Any:
        """The rows that come of the last ones."""
        names = self._halves.columns or last.schema().names
        others = [(name, plan) for name, plan in tables if name != self._halves.name]
        return self._sql(self._halves.step, names, [*others, (self._halves.name, last)])

    def _sql(self, query: str, names: list[str], tables: list[tuple[str, Any]]) -> Any:
        if names:
            columns = ", ".join(_quoted(name) for name in names)
            query = f"SELECT * FROM ({query}) AS {_quoted(self._halves.name)} ({columns})"
        return _native.plan().sql(query, tables, self._functions)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _materialized(plan: Any) -> MaterializedDataset:
    from .dataset import Dataset

    return Dataset(plan).materialize()


def given(query: str, tables: Sequence[tuple[str, Any]], functions: Sequence[Any]) -> tuple[str, list[tuple[str, Any]]]:
    """The query without what of it names itself, and the tables with the rows of that."""
    found = _native.plan().in_rounds(query)
    if found is None:
        return query, list(tables)
    parts, rest = found
    known = list(tables)
    for part in parts:
        halves = Halves(*part)
        plan = _native.deferred(Recursion(halves, known, functions))
        known = [*((name, other) for name, other in known if name != halves.name), (halves.name, plan)]
    return rest, known
