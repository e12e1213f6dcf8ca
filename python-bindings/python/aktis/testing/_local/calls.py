"""One call of a function or a method: its arguments, its run, its answer."""

from __future__ import annotations

import bdb
import contextvars
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aktis import _aktis
from aktis._process.worker import describe_exception, exit_code, is_cancellation

from . import carrying
from .references import Cell, Failure, LocalRef, cell_of, new_task_id, urge
from .streams import LocalGenerator, Stream

if TYPE_CHECKING:
    from .actors import Actor

#: Codes of failures, as `aktis.exceptions` knows them.
APPLICATION, CRASHED, ACTOR_DIED, UNAVAILABLE, CANCELLED, UNSCHEDULABLE = 2, 3, 4, 5, 13, 14
#: How often a task is tried again, unless its options say.
_RETRIES = 3
#: What whoever debugs or interrupts a test means for the test, and not for the call that is under way.
_OF_THE_TEST = (KeyboardInterrupt, bdb.BdbQuit)

#: The call that the running code belongs to.
current: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call within aktis.testing.local()", default=None)


class Call:
    """A call, from its arguments to what it answers."""

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        *,
        actor: Actor | None = None,
        retries: int | None = None,
        urge: Callable[[], None] | None = None,
    ):
        self.name = name
        self.task = new_task_id()
        self.actor = actor
        self.resources: dict[str, float] = options.get("resources") or {}
        self.is_cancelled = False
        self.has_begun = False
        self._is_over = False
        #: Interrupts it while it runs, if that can be.
        self.interrupt: Callable[[], None] | None = None
        self.on_end: Callable[[], None] = lambda: None
        given = [argument for argument in (*args, *kwargs.values()) if isinstance(argument, _aktis.ObjectRef)]
        self.inputs = [cell_of(ref) for ref in given]
        self._given = carrying.carry((args, kwargs))
        self._retries_left = _RETRIES if retries is None else retries
        types = options.get("retry_exception_types") or b""
        self._retry_on: bytes | None = types if options.get("retry_exceptions") else None
        self.stream: Stream | None = None
        self._count = options.get("num_returns", 1)
        if options.get("streaming"):
            self.stream = Stream(name, self.task, self, options.get("max_unread_items"))
        self._cells = [Cell(name, self, urge) for _ in range(0 if self.stream else self._count)]

    def returned(self) -> Any:
        """What the caller gets at once."""
        if self.stream is not None:
            return LocalGenerator(self.stream)
        refs = [LocalRef(cell, self.task, index) for index, cell in enumerate(self._cells)]
        return refs[0] if self._count == 1 else refs or None

    def when_ready(self, begin: Callable[[], None], begin_later: Callable[[], None]) -> None:
        """Calls ``begin`` if the inputs are there; otherwise ``begin_later`` when they are, from whichever thread."""
        for cell in self.inputs:
            urge(cell)
        waiting = [cell for cell in self.inputs if not cell.is_ready]
        if not waiting:
            begin()
            return
        left = iter(waiting)

        def next_one() -> None:
            cell = next(left, None)
            begin_later() if cell is None else cell.on_ready(next_one)

        next_one()

    def has_inputs(self) -> bool:
        """Whether all inputs are there."""
        return all(cell.is_ready for cell in self.inputs)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function is called with: copies, and values in the place of references."""
        args, kwargs = self._given.value()
        return tuple(map(_resolved, args)), {name: _resolved(value) for name, value in kwargs.items()}

    def may_begin(self) -> bool:
        """Whether it is to run at all; if not, it is answered."""
        failed = next((cell.failure for cell in self.inputs if cell.failure is not None), None)
        if self.is_cancelled:
            failed = self._cancelled()
        if failed is not None:
            self.fail(failed)
        self.has_begun = not self._is_over
        return self.has_begun

    def run(self, function: Callable[..., Any]) -> None:
        """Runs it here, to its end; if it is called as a generator, to its first item that is asked for."""
        if not self.may_begin():
            return
        while True:
            try:
                with running(self):
                    args, kwargs = self.arguments()
                    value = function(*args, **kwargs)
                self.give(value)
            except _OF_THE_TEST as error:
                self.fail(Failure(APPLICATION, f"{type(error).__name__}: {self.name} was interrupted"))
                raise
            except BaseException as error:  # noqa: BLE001 - everything is told to the caller
                if not self.raised(error):
                    continue
            return

    def give(self, value: Any) -> None:
        """The function has returned."""
        if self.stream is not None:
            self._begin_stream(value)
            return
        if self._count == 1:
            carried = [carrying.carry(value)]
        else:
            carried = [carrying.carry(item) for item in self._counted(value)]
        for cell, item in zip(self._cells, carried, strict=True):
            cell.give(item)
        self.ended()

    def _counted(self, value: Any) -> list[Any]:
        if self._count == 0:
            return []
        wrong = f"task {self.name} returned {{}}, but num_returns={self._count}: return exactly {self._count} values"
        try:
            items = list(value)
        except TypeError:
            raise ValueError(wrong.format("a value that is not a sequence")) from None
        if len(items) != self._count:
            raise ValueError(wrong.format(f"{len(items)} values"))
        return items

    def _begin_stream(self, value: Any) -> None:
        assert self.stream is not None, "it is called as a generator"
        try:
            items = iter(value)
        except TypeError:
            raise ValueError(f"{self.name} is called as a generator, but did not return an iterable") from None
        self.stream.on_over = functools.partial(self._close, items)
        # From now on: the next item is made by whoever asks for it.
        self.stream.advance = functools.partial(self._advance, items)

    def _advance(self, items: Iterator[Any]) -> None:
        assert self.stream is not None, "it is called as a generator"
        try:
            with running(self):
                item = next(items)
            self.stream.emit(item)
        except StopIteration:
            self.stream.end()
        except _OF_THE_TEST:
            self.stream.end(self._cancelled())
            raise
        except BaseException as error:  # noqa: BLE001 - everything is told to the caller
            self.stream.end(self._described(error)[0])

    def _close(self, items: Any) -> None:
        if hasattr(items, "close") and not getattr(items, "gi_running", False):
            items.close()
        self.ended()

    def raised(self, error: BaseException) -> bool:
        """The function has raised. ``False``: it is to be tried again."""
        if isinstance(error, SystemExit):
            failure = self._exited(error)
            is_retryable = self.actor is None or self.actor.death is None
        elif is_cancellation(error) and self.is_cancelled:
            failure, is_retryable = self._cancelled(), False
        else:
            failure, is_retryable = self._described(error)
        if is_retryable and self._retries_left and not self.is_cancelled:
            self._retries_left -= 1
            return False
        self.fail(failure)
        return True

    def _described(self, error: BaseException) -> tuple[Failure, bool]:
        exception, message, text, is_retryable = describe_exception(error, self.name, self._retry_on)
        return Failure(APPLICATION, message, exception, text), is_retryable

    def _exited(self, error: SystemExit) -> Failure:
        if self.actor is not None:
            return self.actor.exited(self, error)
        status, _ = exit_code(error)
        return Failure(
            CRASHED,
            f"task {self.name} has ended its process: exited with code {status}; here that was sys.exit() or os._exit(), which end a worker",
        )

    def fail(self, failure: Failure) -> None:
        """It has no value."""
        for cell in self._cells:
            cell.fail(failure)
        if self.stream is not None:
            self.stream.end(failure)
        self.ended()

    def cancel(self) -> None:
        """Keeps it from beginning; interrupts it if that can be."""
        if self._is_over:
            return
        self.is_cancelled = True
        if not self.has_begun or self.stream is not None:
            self.fail(self._cancelled())
        if self.interrupt is not None:
            self.interrupt()

    def _cancelled(self) -> Failure:
        return Failure(CANCELLED, f"task {self.name} was cancelled")

    def ended(self) -> None:
        """It is answered."""
        if not self._is_over:
            self._is_over = True
            self.on_end()

    @property
    def is_over(self) -> bool:
        """Whether it is answered."""
        return self._is_over


def _resolved(argument: Any) -> Any:
    return cell_of(argument).value() if type(argument) is LocalRef else argument


@contextmanager
def running(call: Call) -> Iterator[None]:
    """The code within belongs to the call."""
    token = current.set(call)
    try:
        yield
    finally:
        current.reset(token)
