"""MCAP, as its own package reads it: a row per message, in the order of their times."""

from __future__ import annotations

import importlib
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

from aktis.data import _batches

from .reading import Format, Part

# It need not be there when checkers look.
_reader: Any = importlib.import_module("mcap.reader")
_McapError: Any = importlib.import_module("mcap.exceptions").McapError

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 4096


class MCAP(Format):
    """The messages of some topics, times and types."""

    function = "read_mcap"

    def __init__(
        self,
        topics: frozenset[str] | None,
        times: tuple[int, int] | None,
        message_types: frozenset[str] | None,
        *,
        has_metadata: bool,
    ) -> None:
        self._topics = topics
        self._times = times
        self._types = message_types
        self._has_metadata = has_metadata

    def read(self, part: Part) -> Iterator[Any]:
        rows: list[dict[str, Any]] = []
        size = 0
        with part.open() as file:
            try:
                # Its chunks are found from its end on, which a compressed stream does not have.
                reader = _reader.make_reader(io.BytesIO(file.read()) if part.compression else file)
                for schema, channel, message in self._messages(reader):
                    rows.append(self._row(schema, channel, message))
                    size += len(message.data)
                    if size >= _BATCH_BYTES or len(rows) >= _BATCH_ROWS:
                        yield _batches.rows_to_arrow(rows, "read_mcap()")
                        rows, size = [], 0
            except (_McapError, EOFError, struct.error) as error:
                raise ValueError(f"it is no MCAP file, or was cut off: {type(error).__name__} {error}") from None
        if rows:
            yield _batches.rows_to_arrow(rows, "read_mcap()")

    def _messages(self, reader: Any) -> Iterator[Any]:
        first, end = self._times or (None, None)
        for schema, channel, message in reader.iter_messages(
            topics=None if self._topics is None else list(self._topics),
            start_time=first,
            end_time=end,
            log_time_order=True,
        ):
            if self._types is None or (schema is not None and schema.name in self._types):
                yield schema, channel, message

    def _row(self, schema: Any, channel: Any, message: Any) -> dict[str, Any]:
        row = {
            "data": _decoded(message.data) if channel.message_encoding == "json" else message.data,
            "topic": channel.topic,
            "log_time": message.log_time,
            "publish_time": message.publish_time,
            "sequence": message.sequence,
        }
        if self._has_metadata:
            row |= {
                "channel_id": message.channel_id,
                "message_encoding": channel.message_encoding,
                "schema_name": None if schema is None else schema.name,
                "schema_encoding": None if schema is None else schema.encoding,
                "schema_data": None if schema is None else schema.data,
            }
        return row


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:  # it only says that it is JSON
        return data
