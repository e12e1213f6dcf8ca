"""What runs in a worker: a user's function, called batch by batch by the native stage worker."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

from . import _batches


def load(definition: bytes) -> LoadedFunction:
    """Makes a function ready; constructs a class."""
    return LoadedFunction(pickle.loads(definition))


class LoadedFunction:
    """A function that is ready. The native worker calls :meth:`begin` and then :meth:`next_output` until None."""

    def __init__(self, definition: dict[str, Any]) -> None:
        function = definition["function"]
        if definition["is_class"]:
            function = function(*definition["constructor_args"], **definition["constructor_kwargs"])
        self._function = function
        self._args = definition["args"]
        self._kwargs = definition["kwargs"]
        self.name = definition["name"]
        self._format = definition["batch_format"]
        self._writable = not definition["zero_copy"]
        self._call = getattr(self, f"_call_{definition['kind']}")
        self._outputs: Iterator[Any] = iter(())

    def begin(self, batch: Any) -> None:
        """Calls the function with a record batch."""
        self._outputs = self._call(batch)

    def next_output(self) -> Any:
        """The next record batch, None at the end of the call."""
        return next(self._outputs, None)

    def forget_calls(self) -> None:
        """Nobody wants the rest of the call."""
        self._outputs = iter(())

    def _invoke(self, value: Any) -> Any:
        result = self._function(value, *self._args, **self._kwargs)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    def _call_batches(self, batch: Any) -> Iterator[Any]:
        result = self._invoke(_batches.from_arrow(batch, self._format, writable=self._writable))
        if hasattr(result, "__aiter__"):
            result = asyncio.run(_collect(result))
            outputs = iter(result)
        else:
            outputs = result if isinstance(result, Iterator) else iter((result,))
        for output in outputs:
            yield _batches.to_arrow(output, self.name)

    def _call_rows(self, batch: Any) -> Iterator[Any]:
        rows = [self._invoke(row) for row in _batches.rows_of(batch)]
        yield _batches.rows_to_arrow(rows, self.name)

    def _call_flat_rows(self, batch: Any) -> Iterator[Any]:
        rows = [output for row in _batches.rows_of(batch) for output in self._invoke(row)]
        if rows:
            yield _batches.rows_to_arrow(rows, self.name)

    def _call_mask(self, batch: Any) -> Iterator[Any]:
        mask = [bool(self._invoke(row)) for row in _batches.rows_of(batch)]
        yield _batches.columns_to_arrow({"keep": mask}, self.name)

    def _call_column(self, batch: Any) -> Iterator[Any]:
        column, _, function = self.name.partition("=")
        result = self._invoke(_batches.from_arrow(batch, self._format, writable=self._writable))
        values = getattr(result, "values", result) if self._format == "pandas" else result
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            values = [values] * batch.num_rows
        yield _batches.columns_to_arrow({column: values}, function)


async def _collect(outputs: Any) -> list[Any]:
    return [output async for output in outputs]
