"""What runs in a worker: a user's function, called batch by batch by the native stage worker."""

from __future__ import annotations

import asyncio
import atexit
import collections
import functools
import gc
import inspect
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aktis import _aktis
from aktis._messages import hints
from aktis._process import output as _worker_output
from aktis._session import session

from . import _batches, _batching, _caught, _faults, _groups, _mistakes, _own_memory, _wrong_outputs
from ._declared import Declared, has_no_type
from ._failing import RowError
from ._overlapping import Outputs, Overlapping, Threads, as_outputs, gathered
from ._rate_limits import TurnTaker
from ._retrying import Retrying


def load(definition: bytes, captured: list[Any]) -> LoadedFunction:
    """Makes a function ready; constructs a class. ``captured``: the references that were cut out of its definition."""
    from aktis._values import definition as _definition

    name, data = pickle.loads(definition)
    local = session.local()
    if local is None:
        _worker_output.name_work(name)
        _aktis.show_title(f"aktis::{name}")
    try:
        if local is not None:
            return local.loaded(_definition.kept_definition(local, data))  # type: ignore[no-any-return]
        loaded = _definition.load(data)
        made = LoadedFunction(loaded.resolve(captured) if isinstance(loaded, _definition.Capturing) else loaded)
        return _faults.around(made)
    except BaseException as error:
        hints.about(error, name=name)
        raise


#: Of functions that get one row after the other.
_ROW_KINDS = ("rows", "flat_rows", "mask")
#: After the last output of a call.
_END = object()


def _let_go(loaded: weakref.ref[LoadedFunction]) -> None:
    """At the end of the worker: nothing else deletes the object of a class, whose ``__del__`` may have something to close."""
    kept = loaded()
    if kept is not None:
        kept.forget_calls()
        kept._function = _over


def _over(_: Any) -> Any:
    raise RuntimeError("the worker ends, and its function has been let go")


class LoadedFunction:
    """A function that is ready. The native worker calls :meth:`begin`, at most :attr:`calls_ahead` times or, where
    :attr:`limits_calls`, more often, and then :meth:`next_output` for the first of these calls until None."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self._overlapping = Overlapping()
        function = definition["function"]
        if definition["is_class"]:
            # Before its constructor, so that what this registers itself runs with the object still there.
            atexit.register(_let_go, weakref.ref(self))
            if definition["is_async"]:
                # So that what its constructor makes belongs to the loop of the calls.
                asyncio.set_event_loop(self._overlapping.loop)
            function = function(*definition["constructor_args"], **definition["constructor_kwargs"])
        self._function: Callable[[Any], Any] = functools.partial(
            _call, function, definition["args"], definition["kwargs"]
        )
        self.name = definition["name"]
        self._tokens = definition["tokens"]
        self.calls_ahead: int = definition["calls_ahead"]
        #: Whether calls that are too many wait by themselves.
        self.limits_calls: bool = definition["kind"] not in _ROW_KINDS and definition["max_concurrent_calls"] > 1
        #: Whether each output is made when it is asked for: of functions that yield, of groups, of what is read.
        self.is_lazy: bool = definition["kind"] in ("groups", "read") or _yields(definition["function"])
        self._format = definition["batch_format"]
        self._writable = not definition["zero_copy"]
        self._keys: list[str] = definition["keys"]
        schema = definition["output_schema"]
        limit = definition["rate_limit"]
        #: Whether calls wait for their turns.
        self.has_turns: bool = limit is not None
        self._turns = None if limit is None else TurnTaker(limit, self.name)
        if definition["retry"] is not None:
            self._function = Retrying(self._function, definition["retry"], self.name, self._turns)
        self._declared = None if schema is None else Declared(schema, self.name)
        self._begin: Callable[[Callable[[], Any]], Iterator[Any]] = self._begin_plain
        self._forget = self._overlapping.forget
        self._kind = kind = definition["kind"]
        self._given, self._run, self._finish = (getattr(self, f"_{step}_{kind}") for step in ("given", "run", "finish"))
        self._is_async: bool = definition["is_async"]
        if definition["is_async"]:
            self._limit = asyncio.Semaphore(definition["max_concurrent_calls"])
            self._run = getattr(self, f"_run_{kind}_async")
            self._begin = self._overlapping.begin
        elif definition["max_concurrent_calls"] > 1:
            self._threads = Threads(definition["max_concurrent_calls"])
            self._begin, self._forget = self._threads.begin, self._threads.forget
        self._calls: collections.deque[tuple[Any, Iterator[Any]]] = collections.deque()
        #: Whether rows that fail are left out, as far as it is known which they are.
        self._catches = False
        self._failed: list[_caught.Failed] = []

    def begin(self, batch: Any) -> None:
        """Calls the function with a record batch."""
        _worker_output.name_work(self.name)
        given = self._given(batch)
        run = functools.partial(self._run, given)
        if self._turns is not None and self._kind not in _ROW_KINDS:
            run = functools.partial(self._in_turn, batch, run)
        if self._is_async and self.limits_calls:
            run = functools.partial(self._limited, run)
        self._calls.append((batch, self._begin(run)))

    def next_output(self) -> Any:
        """The next record batch of the first call, None at its end."""
        _worker_output.name_work(self.name)
        batch, outputs = self._calls[0]
        try:
            while (output := self._next_of(outputs, batch)) is not _END:
                if (made := self._finish(output, batch)) is not None:
                    return made
        except BaseException as error:
            # A call that fails has ended.
            self._calls.popleft()
            if isinstance(outputs, Outputs):
                self._forget(outputs)
            if self._catches and isinstance(error, RowError):
                self._failed += _caught.of_batch(error, batch.num_rows, self.name)
            raise
        self._calls.popleft()
        return None

    def _next_of(self, outputs: Iterator[Any], batch: Any) -> Any:
        try:
            return next(outputs, _END)
        except Exception as error:
            if self._kind != "read":
                _mistakes.explain(error, batch, self._kind)
            raise

    def has_output_within(self, seconds: float) -> bool:
        """Whether :meth:`next_output` need not wait for a call any more by then."""
        _, outputs = self._calls[0]
        return outputs.is_ready_within(seconds) if isinstance(outputs, Outputs) else True

    def forget_calls(self) -> None:
        """Nobody wants the rest of the calls."""
        for _, outputs in self._calls:
            if isinstance(outputs, Outputs):
                self._forget(outputs)
        self._calls.clear()
        self._failed.clear()

    def count_tokens(self, batch: Any) -> list[int]:
        """How many tokens each row has, by the function that says so."""
        return _batching.counts_of(self._tokens(self._given(batch)), self.name)

    def free_memory(self) -> None:
        """A call has found no memory: what the last one left is given back."""
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def catch_rows(self) -> None:
        """From now on rows that fail are left out, where it is known which they are."""
        self._catches = True

    def take_failed(self) -> list[_caught.Failed]:
        """These rows, of the first call or the one that has just ended."""
        failed, self._failed = self._failed, []
        return failed

    @staticmethod
    def _begin_plain(run: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        return iter(run())

    async def _limited(self, run: Callable[[], Any]) -> Any:
        """What a call gives, which waits until fewer are under way before it begins."""
        async with self._limit:
            async for output in as_outputs(run()):
                yield output

    def _in_turn(self, batch: Any, run: Callable[[], Any]) -> Any:
        """What a call with a batch gives, which waits for its turn before it begins."""
        turns = self._turns
        assert turns is not None
        if not self._is_async:

            def later() -> Iterator[Any]:
                turns.wait(turns.of_batch(batch))
                yield from run()

            return later()

        async def later_on_loop() -> Any:
            await turns.wait_async(turns.of_batch(batch))
            async for output in as_outputs(run()):
                yield output

        return later_on_loop()

    def take_waited_s(self) -> float:
        """How long calls have waited for their turns since this was last asked."""
        return 0.0 if self._turns is None else self._turns.take_waited_s()

    def _invoke_row(self, row: Any) -> Any:
        if self._turns is not None:
            self._turns.wait(self._turns.of_row(row))
        return _own_memory.owned_row(self._invoke(row))

    def _invoke(self, value: Any) -> Any:
        result = self._function(value)
        return self._overlapping.wait_for(result) if inspect.isawaitable(result) else result

    # Batches: one call gives any number of outputs.

    def _given_batches(self, batch: Any) -> Any:
        return _batches.from_arrow(batch, self._format, writable=self._writable)

    def _run_batches(self, value: Any) -> Iterator[Any]:
        result = _caught.not_returned(self._invoke(value))
        if hasattr(result, "__aiter__"):
            result = self._overlapping.begin(lambda: result)
        yield from result if isinstance(result, Iterator) else (result,)

    def _run_batches_async(self, value: Any) -> Any:
        result = self._function(value)
        return _caught.not_returned_later(result) if inspect.iscoroutine(result) else result

    def _finish_batches(self, output: Any, batch: Any) -> Any:
        if isinstance(output, RowError):
            if not self._catches or output.rows is None:
                raise output
            self._failed += _caught.of_batch(output, batch.num_rows, self.name)
            return None
        made = _batches.to_arrow(output, self.name, batch, self._format)
        if self._declared is None:
            return made
        return self._declared.batch(made, lambda column: output[column] if has_no_type(output[column]) else None)

    # Reading: batches of rows for the places where they lie.

    def _given_read(self, batch: Any) -> Any:
        return batch

    _run_read = _run_batches

    def _finish_read(self, output: Any, batch: Any) -> Any:
        return output

    # Groups: calls for each group of a batch that is sorted by the keys and holds whole groups.

    def _given_groups(self, batch: Any) -> Any:
        return _groups.of(batch, self._keys)

    def _run_groups(self, groups: Iterator[Any]) -> Iterator[Any]:
        for group in groups:
            value = _batches.from_arrow(group, self._format, writable=self._writable)
            for output in self._run_batches(value):
                yield _batches.to_arrow(output, self.name, group, self._format)

    def _finish_groups(self, output: Any, batch: Any) -> Any:
        return output

    # Rows: calls for each row, whose results are one output.

    _given_rows = staticmethod(_batches.rows_of)

    def _run_rows(self, rows: list[Any]) -> Iterator[Any]:
        yield self._each(self._invoke_row, rows)

    def _each(self, call: Callable[[Any], Any], rows: list[Any]) -> list[Any]:
        results: list[Any] = []
        _own_memory.look_for_tensors()
        left = iter(rows)
        while len(results) < len(rows):
            try:
                for row in left:
                    results.append(call(row))
            except Exception as error:
                _mistakes.explain_row(error, rows, len(results))
                if not self._catches:
                    raise
                results.append(_caught.Caught(error))
        return results

    async def _run_rows_async(self, rows: list[Any]) -> list[Any]:
        async def call(position: int) -> Any:
            try:
                if self._turns is not None:
                    await self._turns.wait_async(self._turns.of_row(rows[position]))
                result = self._function(rows[position])
                if inspect.isawaitable(result):
                    result = await result
                if hasattr(result, "__aiter__"):
                    return [_own_memory.owned_row(item) async for item in result]
                return _own_memory.owned_row(result)
            except Exception as error:
                _mistakes.explain_row(error, rows, position)
                if not self._catches:
                    raise
                return _caught.Caught(error)

        return await gathered([functools.partial(call, position) for position in range(len(rows))], self._limit)

    def _finish_rows(self, rows: Any, batch: Any) -> Any:
        return self._of_each(rows, batch, self._rows_of_each, _caught.wrong_row)

    def _rows_of_each(self, rows: Any, batch: Any, name: str) -> Any:
        make = functools.partial(_batches.rows_to_arrow, function=name, given=batch)
        return make(rows) if self._declared is None else self._declared.rows(rows, make)

    def _of_each(
        self, results: list[Any], batch: Any, finish: Callable[[Any, Any, str], Any], wrong: Callable[[Any, str], Any]
    ) -> Any:
        """What ``finish`` makes of the results of the rows; ``wrong`` says of one why it is none, or None."""
        try:
            return finish(results, batch, self.name)
        except Exception:
            # Only now, so that results that are all good are looked at once.
            if not self._catches:
                _caught.raise_row_error(results)
                raise
            caught = _caught.among(results, self.name, wrong)
            if self._declared is not None:
                caught = self._misfits(results, batch, finish, caught)
            if not caught:
                raise
        self._failed += _caught.told(caught, self.name)
        good = [position for position in range(len(results)) if position not in caught]
        if not good:
            return None
        return finish([results[position] for position in good], batch.take(_caught.indices(good)), self.name)

    def _misfits(
        self, results: list[Any], batch: Any, finish: Callable[[Any, Any, str], Any], caught: dict[int, Exception]
    ) -> dict[int, Exception]:
        """What is known of results that failed, and those that have not the declared columns."""
        found = dict(caught)
        for position, result in enumerate(results):
            if position not in caught:
                try:
                    finish([result], batch.slice(position, 1), self.name)
                except Exception as error:  # noqa: BLE001 - of whatever type: it is told with the row
                    found[position] = error
        return dict(sorted(found.items()))

    # Rows that become any number of rows.

    _given_flat_rows = _given_rows
    _run_flat_rows_async = _run_rows_async

    def _run_flat_rows(self, rows: list[Any]) -> Iterator[Any]:
        yield self._each(lambda row: self._listed(self._invoke_row(row)), rows)

    def _listed(self, result: Any) -> Any:
        if hasattr(result, "__aiter__"):
            return [_own_memory.owned_row(item) for item in self._overlapping.begin(lambda: result)]
        # What a generator raises is of its row, and what it yields may be written to when it goes on.
        return [_own_memory.owned_row(item) for item in result] if isinstance(result, Iterator) else result

    def _finish_flat_rows(self, outputs: Any, batch: Any) -> Any:
        return self._of_each(outputs, batch, self._flat_rows_of_each, _caught.wrong_rows)

    def _flat_rows_of_each(self, outputs: Any, batch: Any, name: str) -> Any:
        rows: list[Any] = []
        for output in outputs:
            if isinstance(output, (Mapping, str, bytes)) or not hasattr(output, "__iter__"):
                raise _wrong_outputs.no_rows(output, name)
            rows.extend(output)
        if not rows:
            return None
        make = functools.partial(_batches.rows_to_arrow, function=name, given=batch, wrong=_wrong_outputs.no_item)
        return make(rows) if self._declared is None else self._declared.rows(rows, make)

    # Rows that stay or not.

    _given_mask = _given_rows
    _run_mask = _run_rows
    _run_mask_async = _run_rows_async

    def _finish_mask(self, outputs: Any, batch: Any) -> Any:
        return self._of_each(outputs, batch, _mask_of_each, _caught.wrong_truth)

    # One column of a batch.

    _given_column = _given_batches
    _run_column_async = _run_batches_async

    def _run_column(self, value: Any) -> Iterator[Any]:
        yield _own_memory.owned({"": self._invoke(value)})[""]

    def _finish_column(self, result: Any, batch: Any) -> Any:
        column, _, function = self.name.partition("=")
        _caught.not_returned(result)
        if not hasattr(result, "__len__") or isinstance(result, (str, bytes)):
            result = [result] * batch.num_rows
        return _batches.columns_to_arrow({column: result}, function, batch, given_format=self._format)


def _yields(function: Any) -> bool:
    """Whether a function, or a class whose objects are called, yields."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def _mask_of_each(outputs: Any, batch: Any, name: str) -> Any:
    kept = [bool(output) for output in outputs]
    # An exception is as true as any object; types are few, and told apart quickly.
    for kind in {type(output) for output in outputs}:
        if issubclass(kind, (RowError, _caught.Caught)):
            raise TypeError(
                f"{name} returned no truth value"
            )  # which of the rows it was is found by whoever catches this
    return _batches.columns_to_arrow({"keep": kept}, name)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> Any:
    return function(value, *args, **kwargs)
