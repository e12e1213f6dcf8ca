"""Datasets of :func:`aktis.testing.local`: the engine runs in threads of this process, functions where their rows are taken.

```text
 thread of the engine   LocalFunction.begin(batch) ──► question ─┐                    ┌──► goes on
 thread of the test     take(), iter_batches(), ...     next() ──┴─► runs it ─► reply ─┘
```
So a function runs in the thread of the test, with its debugger, its connections and its context, and one call after another.
"""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aktis.data import _one_schema, _parts
from aktis.data._worker import LoadedFunction

from .exits import in_dataset

if TYPE_CHECKING:
    from .runtime import LocalRuntime

#: How long the engine is waited for at once, by the thread that does nothing else.
_TURN_S = 0.5


class _Question:
    """What a thread of the engine wants to have called."""

    def __init__(self, function: Callable[[], Any]):
        self._function = function
        self._is_answered = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def answer(self) -> None:
        """Calls it."""
        token = in_dataset.set(True)
        try:
            self._value = self._function()
        except SystemExit as error:
            self._error = _exited(error)
        except KeyboardInterrupt as error:
            self._error = error
            raise
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            self._error = error
        finally:
            in_dataset.reset(token)
            self._is_answered.set()

    def refuse(self, error: BaseException) -> None:
        """It will not be called."""
        self._error = error
        self._is_answered.set()

    def wait(self) -> Any:
        """What it gave."""
        self._is_answered.wait()
        if self._error is not None:
            raise self._error
        return self._value


class Questions:
    """Between the threads of one execution and the thread that takes its rows."""

    def __init__(self, runtime: LocalRuntime):
        self._runtime = runtime
        self._queue: queue.SimpleQueue[_Question | Callable[[], tuple[bool, Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.is_closed = False

    def enter(self) -> None:
        """The calling thread, a new one of the engine, asks here."""
        self._runtime.questions_of[threading.get_ident()] = self

    def ask(self, function: Callable[[], Any]) -> Any:
        """Has the thread of the test call it."""
        question = _Question(function)
        with self._lock:
            if self.is_closed:
                raise _over()
            self._queue.put(question)
        return question.wait()

    def tell(self, outcome: Callable[[], tuple[bool, Any]]) -> None:
        """What the engine has."""
        self._queue.put(outcome)

    def next(self, timeout: float) -> Callable[[], tuple[bool, Any]] | None:
        """Answers questions until the engine has something, which is returned; ``None``: not in time."""
        end = time.monotonic() + timeout
        while True:
            try:
                found = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if not isinstance(found, _Question):
                return found
            found.answer()

    def close(self) -> None:
        """Nobody answers any more."""
        with self._lock:
            self.is_closed = True
        while True:
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(found, _Question):
                found.refuse(_over())


def _exited(error: SystemExit) -> RuntimeError:
    exited = RuntimeError(
        f"a function of a dataset has ended its process ({type(error).__name__}: {error.code}); with workers its rows would count as "
        "failed by a WorkerCrashedError, and aktis.testing.local() has only the process of the test"
    )
    exited.__cause__ = error
    return exited


def _over() -> RuntimeError:
    return RuntimeError("nobody takes the rows of this dataset any more")


class LocalExecution:
    """An execution whose functions run in the thread that calls :meth:`next`."""

    def __init__(self, native: Any, questions: Questions, runtime: LocalRuntime):
        self.native = native
        self._questions = questions
        self._runtime = runtime
        self._is_asked = False

    def next(self, seconds: float) -> tuple[bool, Any]:
        """As the native one's."""
        if self._questions.is_closed:
            raise RuntimeError("the aktis.testing.local() that this dataset runs in is over: take its rows within")
        if not self._is_asked:
            self._is_asked = True
            threading.Thread(target=self._ask, name="aktis-local-next", daemon=True).start()
        outcome = self._questions.next(seconds)
        if outcome is None:
            return False, None
        self._is_asked = False
        is_over, block = outcome()
        return is_over, None if block is None else LocalBlock(block, self)

    def _ask(self) -> None:
        """Waits for what the engine has next, and tells it."""
        try:
            found: tuple[bool, Any] = False, None
            while found == (False, None) and not self._questions.is_closed:
                found = self.native.next(_TURN_S)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that takes the rows
            failure = error

            def failed() -> tuple[bool, Any]:
                raise failure

            self._questions.tell(failed)
        else:
            self._questions.tell(lambda: found)

    def read(self, block: LocalBlock) -> list[Any]:
        """The record batches of a block."""
        batches: list[Any] = self.native.read(block.native)
        return batches

    def dead_letters(self, output: int = 0) -> list[tuple[str, Any, tuple[Any, int, int, int]]]:
        """As the native one's, put where this session keeps its objects."""
        return [(step, schema, self.stored(batches)) for step, schema, batches in self.native.read_dead_letters(output)]

    def stored(self, batches: list[Any]) -> tuple[Any, int, int, int]:
        """Rows as a part of the store."""
        import pyarrow

        table = pyarrow.Table.from_batches(batches)
        return self._runtime.put(table), 0, table.num_rows, table.nbytes

    def cancel(self) -> None:
        """Ends it."""
        self.native.cancel()
        self._questions.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.native, name)


class LocalBlock:
    """Rows of an execution, not read yet."""

    def __init__(self, native: Any, execution: LocalExecution):
        self.native = native
        self._execution = execution

    def part(self) -> tuple[Any, int, int, int]:
        """As the native one's."""
        return self._execution.stored(self._execution.read(self))


class LocalFunction:
    """A :class:`LoadedFunction` that is made and called in the thread of the test. The native worker calls it."""

    def __init__(self, definition: dict[str, Any], questions: Questions):
        self._questions = questions
        self._loaded: LoadedFunction = (
            _on_a_thread(definition) if definition["is_async"] else questions.ask(lambda: LoadedFunction(definition))
        )

    def forget_calls(self) -> None:
        """As :meth:`LoadedFunction.forget_calls`, if anybody is left to be told."""
        if not self._questions.is_closed:
            self._questions.ask(self._loaded.forget_calls)

    def __getattr__(self, name: str) -> Any:
        """What the native worker asks of a loaded function, whatever that is."""
        found = getattr(self._loaded, name)
        if not inspect.ismethod(found):
            return found
        return lambda *args: self._questions.ask(lambda: found(*args))


def _on_a_thread(definition: dict[str, Any]) -> LoadedFunction:
    """Async functions have a loop of their own thread, and their constructor is to find it: not as the loop of the test."""
    made: list[LoadedFunction] = []
    failed: list[BaseException] = []

    def make() -> None:
        try:
            made.append(LoadedFunction(definition))
        except BaseException as error:  # noqa: BLE001 - raised where it is asked for
            failed.append(error)

    thread = threading.Thread(target=make, name="aktis-local-load", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def batches_of(schema: Any, parts: list[_parts.Part]) -> list[Any]:
    """The rows of parts, with the columns of all of them."""
    # A block each.
    tables = (_parts.table_of(part).combine_chunks() for part in parts)
    batches = (batch for table in tables for batch in table.to_batches())
    return [
        _one_schema.conformed(batch, schema, "a materialised dataset", ("of all its rows", "in a block"))
        for batch in batches
    ]
