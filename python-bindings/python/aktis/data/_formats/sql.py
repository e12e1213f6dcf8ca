"""Databases that Python connects to (PEP 249): the rows of a query, or of several."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aktis.data import _batches
from aktis.data.block import BlockMetadata
from aktis.data.datasource import Datasource, ReadTask

#: Rows that are fetched at once.
_ROWS_PER_BATCH = 4096
#: Parts by a column, where nobody has said how many: each is a query of its own, which is not worth it for few rows.
_PARTS, _ROWS_PER_PART = 16, 10_000


class Queries(Datasource):
    """The rows of several queries, a task each."""

    def __init__(self, queries: Sequence[str], connect: Callable[[], Any], params: Any) -> None:
        self._queries = [_Query(connect, sql, params) for sql in queries]

    def get_name(self) -> str:
        return "SQL"

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [ReadTask(query, BlockMetadata()) for query in self._queries]


class Ranges(Datasource):
    """The rows of a query, in parts by the values of a column. Every row is in one of them, also where rows have been added since."""

    def __init__(self, sql: str, connect: Callable[[], Any], params: Any, column: str, parts: int | None) -> None:
        self._query = _Query(connect, sql, params)
        self._column, self._parts = column, parts

    def get_name(self) -> str:
        return "SQL"

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [ReadTask(self._query.where(condition), BlockMetadata()) for condition in self._conditions()] or [
            ReadTask(self._query, BlockMetadata())
        ]

    def _conditions(self) -> list[str]:
        column = self._column
        try:
            least, most, count = self._query.first_row(f"MIN({column}), MAX({column}), COUNT(*)")
        except Exception as error:
            raise ValueError(
                f"read_sql(partition_column={column!r}): the database cannot tell its bounds: {error}"
            ) from error
        parts = self._parts or min(_PARTS, count // _ROWS_PER_PART)
        if parts < 2 or least is None:
            return []
        bounds = [literal(bound) for bound in bounds_between(column, least, most, parts)]
        if not bounds:
            return []
        between = itertools.pairwise(bounds)
        return [
            f"{column} < {bounds[0]} OR {column} IS NULL",
            *(f"{column} >= {start} AND {column} < {end}" for start, end in between),
            f"{column} >= {bounds[-1]}",
        ]


def bounds_between(column: str, least: Any, most: Any, parts: int) -> list[Any]:
    """Values that part a column evenly, each once.

    >>> bounds_between("id", 0, 99, 4), bounds_between("id", 5, 6, 4), bounds_between("id", 5, 5, 4)
    ([25, 50, 75], [6], [])
    """
    kinds = (int, float, decimal.Decimal, datetime.date)
    is_known = isinstance(least, kinds) and isinstance(most, kinds) and not isinstance(least, bool)
    if not is_known or not all(math.isfinite(value) for value in (least, most) if isinstance(value, float)):
        raise ValueError(
            f"read_sql(partition_column={column!r}): its values go from {least!r} to {most!r}; a column of numbers, dates or times "
            "can be parted, others by a list of queries, or by shard_keys"
        )
    whole = isinstance(least, int) and isinstance(most, int)
    low: Any = least
    span: Any = most - low
    inner = range(1, parts)
    evenly = (
        [low + (span + 1) * part // parts for part in inner] if whole else [low + span * part / parts for part in inner]
    )
    return sorted({bound for bound in evenly if low < bound <= most})


def literal(value: Any) -> str:
    """As SQL has it.

    >>> import datetime, decimal
    >>> literal(7), literal(decimal.Decimal("1E+3")), literal(datetime.date(2026, 1, 2))
    ('7', '1000', "'2026-01-02'")
    """
    if isinstance(value, datetime.datetime):
        return f"'{value.isoformat(sep=' ')}'"
    if isinstance(value, datetime.date):
        return f"'{value.isoformat()}'"
    return format(value, "f") if isinstance(value, decimal.Decimal) else repr(value)


class SQL(Datasource):
    """The rows of a query, as one task; or as several, each with the rows whose keys have its share of hash values."""

    def __init__(
        self, sql: str, connect: Callable[[], Any], params: Any, shard_keys: Sequence[str] | None, shard_hash_fn: str
    ) -> None:
        self._query = _Query(connect, sql, params)
        keys = list(shard_keys or ())
        self._key = f"CONCAT({','.join(keys)})" if len(keys) > 1 else "".join(keys)
        self._hash = shard_hash_fn

    def get_name(self) -> str:
        return "SQL"

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        if not self._key or parallelism < 2:
            return [ReadTask(self._query, BlockMetadata())]
        shards = [self._shard(number, parallelism) for number in range(parallelism)]
        # Databases that lack one of these functions say so here, and not in a worker.
        try:
            shards[0].check()
        except Exception as error:
            raise ValueError(
                f"read_sql(shard_keys=...): the database cannot share rows out by {self._hash}(): {error}; leave shard_keys out, or "
                "give shard_hash_fn a function that it has"
            ) from error
        return [ReadTask(shard, BlockMetadata()) for shard in shards]

    def _shard(self, number: int, of: int) -> _Query:
        return self._query.where(f"MOD(ABS({self._hash}({self._key})), {of}) = {number}")


class _Query:
    def __init__(self, connect: Callable[[], Any], sql: str, params: Any) -> None:
        self.connect, self.sql, self.params = connect, sql, params

    def __call__(self) -> Iterator[Any]:
        with self._cursor() as cursor:
            self._execute(cursor, self.sql)
            if cursor.description is None:
                raise ValueError(f"read_sql({self.sql!r}): it gives no rows; a query begins with SELECT")
            names = [description[0] for description in cursor.description]
            is_first = True
            while (rows := cursor.fetchmany(_ROWS_PER_BATCH)) or is_first:
                columns = zip(*rows, strict=True) if rows else [()] * len(names)
                yield _batches.columns_to_arrow(
                    {name: list(column) for name, column in zip(names, columns, strict=True)}, "read_sql()"
                )
                is_first = False

    def where(self, condition: str) -> _Query:
        """Those of its rows for which this is true."""
        return _Query(self.connect, f"SELECT * FROM ({self.sql}) AS T WHERE {condition}", self.params)

    def check(self) -> None:
        """Raises if the database does not understand it."""
        self.first_row("COUNT(1)")

    def first_row(self, columns: str) -> Any:
        """What is asked of all of its rows."""
        with self._cursor() as cursor:
            self._execute(cursor, f"SELECT {columns} FROM ({self.sql}) AS S")
            return cursor.fetchone()

    def _execute(self, cursor: Any, sql: str) -> None:
        cursor.execute(sql) if self.params is None else cursor.execute(sql, self.params)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = self.connect()
        lacking = [name for name in ("close", "commit", "cursor") if not hasattr(connection, name)]
        if lacking:
            raise TypeError(
                f"read_sql(): connection_factory gave {type(connection).__name__}, which is no connection of Python's DB API: it has "
                f"no {lacking[0]}()"
            )
        try:
            yield connection.cursor()
        finally:
            connection.close()
