"""A run of a dataset: begun, followed with its progress, ended. Every way of taking or writing rows goes through here."""

from __future__ import annotations

import pickle
import time
import uuid
import weakref
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Self

from aktis._session import session
from aktis._session.logging_level import logger
from aktis._values.definition import KEPT, kept_definition

from . import _expectations, _failing, _identities, _native, _rate_limits
from ._context import DataContext
from ._progress import Progress

#: How long a wait lasts before Python looks for signals and shows progress.
SLICE_S = 0.1
#: After so long without a worker, somebody should look at what the cluster is busy with.
PATIENCE_S = 10.0

_LOGGER = logger("aktis.data")

#: When executions must have ended that may take only so long, and how long that is.
_DEADLINES: weakref.WeakKeyDictionary[Any, tuple[float, float]] = weakref.WeakKeyDictionary()
#: What keeps the rate limits of executions under way.
_HELD: weakref.WeakKeyDictionary[Any, _rate_limits.Held] = weakref.WeakKeyDictionary()


#: A plan, its sink (``None``: its rows are given out), and where rows go that functions fail for, if not beside the output.
Output = tuple[Any, dict[str, Any] | None, str | None]


def start(plan: Any, *, ordered: bool, sink: dict[str, Any] | None = None) -> Any:
    """Starts a plan; returns the native execution. What the plan begins with is run before."""
    return start_all([(plan, sink, None)], ordered=ordered)


def start_all(outputs: Sequence[Output], *, ordered: bool) -> Any:
    """The same of several plans, as one job."""
    _native.ensure_session()
    settled = [
        (_native.settled(plan), sink, None if folder is None else (folder, uuid.uuid4().hex[:12]))
        for plan, sink, folder in outputs
    ]
    context = DataContext.get_current()
    options = context.execution_options
    order = options.preserve_order if options.preserve_order is not None else ordered
    budget = options.resource_limits.object_store_memory
    definitions = [definition for plan, *_ in settled for definition in _identities.definitions(plan)]
    for definition in definitions:
        _check_is_of_session(definition)
    limits = [definition.limit for definition in definitions if definition.limit is not None]
    held = _rate_limits.Held(limits)
    options_of_run = {
        "keep_order": order,
        "budget_bytes": None if budget is None else int(budget),
        "block_bytes": context.target_max_block_size,
        "max_deaths": context.max_worker_deaths_per_input,
        "failures": _failing.job_wide(context),
    }
    execute, local = _native.jobs().execute, session.local()
    try:
        execution = (
            execute(settled, **options_of_run) if local is None else local.execute(execute, settled, options_of_run)
        )
    except BaseException:
        held.release()
        raise
    if context.time_limit_s is not None:
        _DEADLINES[execution] = time.monotonic() + context.time_limit_s, context.time_limit_s
    if limits:
        # Of one that nobody ever waits for, too.
        weakref.finalize(execution, held.release).atexit = False
        _HELD[execution] = held
    return execution


def _check_is_of_session(definition: bytes) -> None:
    """Raises for a function that workers of this session could not load, each of which would try."""
    _, data = pickle.loads(definition)
    local = session.local()
    if (local is not None) or data.startswith(KEPT):
        kept_definition(local, data)


def batches(execution: Any) -> Iterator[Any]:
    """The record batches that an execution gives. Closing the iterator ends the execution."""
    with _Running(execution) as running:
        for block in running.blocks():
            yield from execution.read(block)


def run(execution: Any) -> None:
    """Waits for an execution whose rows go into a sink. If it is interrupted or takes too long, until its output has been taken back:
    the next run of the same job takes up what this one has done only when this one has let go of it."""
    with _Running(execution) as running:
        try:
            for _ in running.blocks():
                pass
        except (KeyboardInterrupt, TimeoutError):
            execution.cancel()
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline and not execution.has_ended(SLICE_S):
                pass
            raise


def blocks(execution: Any) -> list[Any]:
    """All blocks, unread."""
    return list(each_block(execution))


def each_block(execution: Any) -> Generator[Any]:
    """The blocks one after another, unread. Closing the iterator ends the execution."""
    with _Running(execution) as running:
        yield from running.blocks()


class _Running:
    """An execution under way, with its progress."""

    def __init__(self, execution: Any) -> None:
        self._execution = execution
        self._progress = Progress(execution)
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._execution.cancel()
        if (held := _HELD.pop(self._execution, None)) is not None:
            held.release()
        self._progress.close(self._ending(kind))

    def _ending(self, kind: type[BaseException] | None) -> str:
        if kind is None or issubclass(kind, GeneratorExit):
            return "done" if self._is_over else "stopped"
        return "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"

    def blocks(self) -> Iterator[Any]:
        complain_at = time.monotonic() + PATIENCE_S
        deadline, limit_s = _DEADLINES.get(self._execution, (None, 0.0))
        while True:
            self._is_over, block = self._execution.next(SLICE_S)
            self._progress.show()
            if self._is_over:
                _expectations.warn(self._execution)
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"the job took longer than DataContext.time_limit_s = {limit_s:g} seconds. It was so far: {_how_far(self._execution)}"
                )
            if time.monotonic() >= complain_at:
                complain_at += 6 * PATIENCE_S
                if waiting := self._execution.waiting_stages():
                    _LOGGER.warning(
                        "%s: no worker has started yet. The cluster may be busy (see `aktis status`), or the function "
                        "takes long to load.", " and ".join(waiting),
                    )  # fmt: skip
                for kind in self._execution.waiting_kinds():
                    _LOGGER.warning("%s; workers of other kinds do the work", kind)
            if block is not None:
                yield block


def _how_far(execution: Any) -> str:
    """What an execution has done, stage by stage."""
    told = []
    for stage in execution.stats()["stages"]:
        rows = stage["operators"][-1]["rows_in"] if stage["operators"] else 0
        state = "done" if stage["is_done"] else f"{stage['inputs']} of {stage['known_inputs']} known inputs are done"
        waits = ", no worker has started yet" if stage["workers"] and stage["workers"] == stage["starting"] else ""
        waits += "".join(f", {kind['worker']} waits: {kind['waits']}" for kind in stage["kinds"] if kind["waits"])
        told.append(f"{stage['name']}: {state}, {rows:,} rows{waits}")
    return "; ".join(told)
