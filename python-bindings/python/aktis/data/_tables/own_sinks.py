"""Sinks of users' own, and statements of databases, within a job of several outputs: their workers tell what their calls gave."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aktis.data.datasource import WriteResult

from .committing import Target

if TYPE_CHECKING:
    import pyarrow

    from aktis.data.datasource import Datasink


def result_of(rows: Iterable[Mapping[str, Any]]) -> WriteResult[Any]:
    """What became of all calls, from what ``WriteTask`` says of each."""
    calls = list(rows)
    return WriteResult(
        num_rows=sum(row["num_rows"] for row in calls),
        size_bytes=sum(row["size_bytes"] for row in calls),
        write_returns=[pickle.loads(row["result"]) for row in calls],
    )


class SinkTarget(Target):
    """A sink whose calls are what is added. It stays in the driver: its calls have a copy of their own."""

    is_shared = True

    def __init__(self, function: str, sink: Datasink[Any]) -> None:
        self.function = function  # type: ignore[misc]
        self._sink: Any = sink
        self._written = 0
        self.rows = self._written_rows

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "_sink": None, "_written": 0}

    def _written_rows(self) -> int:
        return self._written

    def add(self, rows: pyarrow.Table) -> list[dict[str, Any]]:
        return rows.to_pylist()

    def commit(self, receipts: list[Any]) -> None:
        result = result_of(row for rows in receipts for row in rows)
        self._sink.on_write_complete(result)
        self._written = result.num_rows

    def how_to_tell(self) -> str:
        return "what the sink has done"

    def discard(self, receipts: list[Any]) -> None:
        """What a sink has done stays."""

    def failed(self, error: Exception) -> None:
        self._sink.on_write_failed(error)
