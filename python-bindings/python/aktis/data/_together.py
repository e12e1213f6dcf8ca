"""Several writes as one job (ADR 153): what they have in common is read and computed once."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from . import _folders, _going_on, _native, _running

_CURRENT: contextvars.ContextVar[Together | None] = contextvars.ContextVar("aktis.data.run_together", default=None)


class Write(NamedTuple):
    """A write that was prepared and has not run."""

    #: The method, and the folder as the user wrote it.
    function: str
    path: str
    #: The folder by the one name that it has.
    place: str
    plan: Any
    sink: dict[str, Any]
    #: Where rows go that functions fail for, if not beside the output.
    letters_folder: str | None
    #: Is given the execution as soon as there is one.
    keep: Callable[[Any], None]
    #: Is around the run: raises its errors as the method means them, and commits what is not there with the run.
    as_meant: Callable[[], contextlib.AbstractContextManager[None]]
    #: Whether it commits something.
    commits: bool = False
    #: How many rows came to it, where what is written are none of them.
    rows: Callable[[], int] | None = None
    #: Is told why, if the block raises, so that nothing runs.
    is_off: Callable[[Exception], None] | None = None
    #: If it is local, and may have what an unfinished job has left.
    folder: _going_on.Folder | None = None

    @property
    def output(self) -> _running.Output:
        return self.plan, self.sink, self.letters_folder

    @property
    def is_far(self) -> bool:
        return self.sink.get("far") is not None

    @property
    def replaces(self) -> bool:
        """Whether it takes away what is in its folder."""
        far = self.sink.get("far")
        return self.sink["mode"] == "overwrite" if far is None else far[2]

    def __str__(self) -> str:
        return f"{self.function}({self.path!r})"


def run_together() -> Together:
    """Runs the writes of a ``with`` block as one job, when the block ends: datasets that they share are read once, and functions before
    a branch are called once per row.

    Their arguments are looked at where they stand. All files become visible together, here or in stores, or, if one of the writes fails,
    none. Tables are committed when files are visible, one after the other in the order of the block; then sinks of one's own hear that
    all is written. What databases and such sinks were given before a failure is not taken back.

    If the block raises, nothing runs. Whatever else is asked for within it (``count``, ``take``, ``materialize``) runs at once, by itself,
    and so do writes of other threads. A block within another one is a job of its own.

    Returns:
        The run: its :meth:`~Together.explain` tells within the block what will run; behind it, :meth:`~Together.stats` and
        :meth:`~Together.rows_written` tell what did.

    Raises:
        ValueError: two of them write into one folder.
        TaskError: as for :meth:`Dataset.take`; a note says which outputs it was on the way to.

    Example:
        >>> import aktis.data, os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> squares = aktis.data.range(100).map_batches(lambda batch: {"id": batch["id"], "square": batch["id"] ** 2})
        >>> with aktis.data.run_together() as run:
        ...     squares.write_parquet(os.path.join(folder, "all"))
        ...     squares.filter(expr="square < 100").write_csv(os.path.join(folder, "small"))
        >>> list(run.rows_written().values())
        [100, 10]
    """
    return Together()


def current() -> Together | None:
    """The block that this is within."""
    together = _CURRENT.get()
    # Tasks of asyncio and some threads go on with what was current where they began.
    return together if together is not None and together.is_open_here() else None


def write(prepared: Callable[[contextlib.ExitStack], Write | None]) -> None:
    """Runs a write, or with others at the end of a block that it is in. ``prepared`` is given where to leave what goes when it has run,
    and gives ``None`` if nothing is to be written."""
    together = current()
    with contextlib.ExitStack() as own:
        write = prepared(own if together is None else together.places)
        if write is None:
            return
        if together is not None:
            together.add(write)
            return
        if not _going_on.settled([write]):
            return
        with write.as_meant():
            execution = _running.start_all([write.output], ordered=False)
            write.keep(execution)
            _running.run(execution)


class Together:
    """Writes that run as one job; :func:`aktis.data.run_together` makes it."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._execution: Any = None
        #: Of those that commit something: that have done so, by their places.
        self._committed: set[int] = set()
        self._token: contextvars.Token[Together | None] | None = None
        #: The thread that is in the block.
        self._thread: int | None = None
        #: Folders here that files are made in before they go elsewhere.
        self.places = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("run_together() runs once: make another one for another block")
        self._token, self._thread = _CURRENT.set(self), threading.get_ident()
        return self

    def is_open_here(self) -> bool:
        """Whether writes of this thread are still collected."""
        return self._thread == threading.get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        self._thread = None
        _CURRENT.reset(self._token)
        with self.places:
            if kind is None:
                self._writes = _going_on.settled(self._writes)
            if kind is None and self._writes:
                self._run()
            for write in self._writes:
                if write.is_off is not None and isinstance(error, Exception):
                    write.is_off(error)

    def add(self, write: Write) -> None:
        """One more write."""
        for other in self._writes:
            _check_apart(other, write)
        self._writes.append(write)

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as meanings:
                # The first one that was entered is the last one that commits.
                for index, write in reversed([*enumerate(self._writes)]):
                    meanings.enter_context(self._counted(index, write))
                execution = self._execution = _running.start_all(
                    [write.output for write in self._writes], ordered=False
                )
                for index, write in enumerate(self._writes):
                    write.keep(OutputOfRun(execution, index))
                _running.run(execution)
        except BaseException as error:
            error.add_note(self._said_of_failure())
            raise

    @contextlib.contextmanager
    def _counted(self, index: int, write: Write) -> Iterator[None]:
        with write.as_meant():
            yield
        self._committed.add(index)

    def _said_of_failure(self) -> str:
        if self._is_whole():
            commits = [(index, write) for index, write in enumerate(self._writes) if write.commits]
            missing = [str(write) for index, write in commits if index not in self._committed]
            if not missing:
                return "run_together(): all outputs are there: they were when this came"
            others = ", the other outputs are there" if len(missing) < len(self._writes) else ""
            return f"run_together(): not committed: {' and '.join(missing)}{others}"
        failed = [str(self._writes[index]) for index in self._execution.failed_outputs()] if self._execution else []
        where = f"this happened on the way to {' and '.join(failed)}; " if failed else ""
        count = len(self._writes)
        none = f"none of the {count} outputs is there" if count > 1 else "the output is not there"
        is_published = any(write.is_far and not write.commits for write in self._writes)
        but = ", but those in stores that had been published before" if is_published else ""
        return f"run_together(): {where}{none}{but}"

    def _is_whole(self) -> bool:
        """Whether the run has ended well, though nobody has heard of it."""
        if self._execution is None:
            return False
        try:
            is_over, _ = self._execution.next(0.0)
        except Exception:  # noqa: BLE001 - what it failed with is being raised
            return False
        return is_over

    def explain(self) -> str:
        """What will run: the plan of each output so far, what they share, and the stages.

        Returns:
            Text of several lines. Nothing runs.

        >>> import aktis.data, tempfile
        >>> with aktis.data.run_together() as run:
        ...     aktis.data.range(3).write_csv(tempfile.mkdtemp())
        ...     "Read->Write" in run.explain()
        True
        """
        return _native.jobs().explain_together([write.output for write in self._writes])

    def stats(self) -> str:
        """What the run did, per operator: text, which a notebook shows as a table.

        Returns:
            Text of several lines; empty if it has not run.

        >>> import aktis.data
        >>> aktis.data.run_together().stats()
        no run yet
        """
        from ._notebook import Stats

        stats = self._execution
        return Stats("" if stats is None else stats.stats_text(), {} if stats is None else stats.stats())

    def rows_written(self) -> dict[str, int]:
        """How many rows came to each output.

        Returns:
            From folder, as it was given, or table, or name of a sink, to rows; empty if it has not run.

        >>> import aktis.data
        >>> aktis.data.run_together().rows_written()
        {}
        """
        if self._execution is None:
            return {}
        written: dict[str, int] = {}
        for index, write in enumerate(self._writes):
            rows = self._execution.rows_sunk(index) if write.rows is None else write.rows()
            written[write.path] = written.get(write.path, 0) + rows
        return written


class OutputOfRun:
    """A run, from the side of one of its outputs."""

    def __init__(self, execution: Any, output: int) -> None:
        self._execution = execution
        self._output = output

    def seen_schema(self) -> Any:
        return self._execution.seen_schema(self._output)

    def look(self) -> Any:
        return self._execution.look(self._output)

    def dead_letters(self) -> Any:
        return self._execution.dead_letters(self._output)

    def rows_sunk(self) -> int:
        return self._execution.rows_sunk(self._output)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._execution, name)


def _check_apart(one: Write, other: Write) -> None:
    """Raises if one of two writes would get in the way of the other."""
    if one.is_far != other.is_far:
        return
    for rows, others in ((one, other), (other, one)):
        _folders.check_letters(str(rows), rows.letters_folder, str(others), others.place, replaces=others.replaces)
    if one.place == other.place:
        place = "table" if one.commits else "folder"
        raise ValueError(
            f"run_together(): {one} and {other} go into one {place}: give each one of its own, or put the rows together with union()"
        )
    for outer, inner in ((one, other), (other, one)):
        if outer.replaces and _folders.is_within(inner.place, outer.place):
            raise ValueError(
                f"run_together(): {outer} replaces what is in its folder, and {inner} goes there: give them folders beside each other"
            )
