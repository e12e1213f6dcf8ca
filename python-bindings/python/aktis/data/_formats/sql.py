"""Databases that Python connects to (PEP 249): the rows of a query."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aktis.data import _batches
from aktis.data.block import BlockMetadata
from aktis.data.datasource import Datasource, ReadTask

#: Rows that are fetched at once.
_ROWS_PER_BATCH = 4096


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
        query = self._query
        where = f"MOD(ABS({self._hash}({self._key})), {of}) = {number}"
        return _Query(query.connect, f"SELECT * FROM ({query.sql}) AS T WHERE {where}", query.params)


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

    def check(self) -> None:
        """Raises if the database does not understand it."""
        with self._cursor() as cursor:
            self._execute(cursor, f"SELECT COUNT(1) FROM ({self.sql}) AS S")

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
