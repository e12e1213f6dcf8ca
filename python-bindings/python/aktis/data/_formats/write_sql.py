"""Databases that Python connects to (PEP 249): a statement for each row."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from aktis.data import _batches
from aktis.data.datasource import Datasink


class SQLSink(Datasink[None]):
    """Rows as the values of a statement, a transaction for each batch."""

    def __init__(self, sql: str, connect: Callable[[], Any]) -> None:
        self._sql = sql
        self._connect = connect

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        connection = self._connect()
        try:
            cursor = connection.cursor()
            for block in blocks:
                rows = [tuple(row.values()) for row in _batches.rows_of(block)]
                cursor.executemany(self._sql, rows)
            connection.commit()
        except Exception:
            # Not every database has transactions; what it says of that hides why this failed.
            with contextlib.suppress(Exception):
                connection.rollback()
            raise
        finally:
            connection.close()
