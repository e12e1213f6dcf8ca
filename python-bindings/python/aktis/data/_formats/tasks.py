"""Running the tasks of a user's source in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow

from aktis.data import _batches
from aktis.data.datasource import ReadTask


def dumped(task: ReadTask, name: str) -> bytes:
    """The task as it travels to workers."""
    from aktis._values import definition as _definition

    try:
        payload = _definition._dump(task, object())
    except Exception as error:
        raise TypeError(f"{name}: a ReadTask cannot be sent to workers: {error}") from error
    if payload.captured:
        raise TypeError(f"{name}: a ReadTask holds an object reference; give it the value, or read it in map_batches()")
    return payload.data


class Runner:
    """What workers call with tasks."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
        """The rows of the tasks, which come as a batch: a row each."""
        from aktis._values import definition as _definition

        for data in batch.column(0).to_pylist():
            blocks: Any = _definition.load(data)()
            for block in blocks:
                yield _batches.to_arrow(block, self._name)
