"""Running a dataset and taking what comes out."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Self

from . import _native
from ._context import DataContext

#: How long a wait lasts before Python looks for signals and shows progress.
SLICE_S = 0.1
#: Short jobs show no progress.
QUIET_S = 1.0
#: After so long without a worker, somebody should look at what the cluster is busy with.
PATIENCE_S = 10.0
#: Where lines cannot be overwritten, they are not written more often.
PLAIN_INTERVAL_S = 5.0

_LOGGER = logging.getLogger("aktis.data")


def start(plan: Any, *, ordered: bool, sink: dict[str, Any] | None = None) -> Any:
    """Starts a plan; returns the native execution."""
    _native.ensure_session()
    context = DataContext.get_current()
    options = context.execution_options
    order = options.preserve_order if options.preserve_order is not None else ordered
    budget = options.resource_limits.object_store_memory
    return plan.execute(
        sink=sink,
        keep_order=order,
        budget_bytes=None if budget is None else int(budget),
        block_bytes=context.target_max_block_size,
        max_deaths=context.max_worker_deaths_per_input,
    )


def batches(execution: Any) -> Iterator[Any]:
    """The record batches that an execution gives. Closing the iterator ends the execution."""
    with _Running(execution) as running:
        for block in running.blocks():
            yield from execution.read(block)


def run(execution: Any) -> None:
    """Waits for an execution whose rows go into a sink. If it is interrupted, until its output has been taken back."""
    with _Running(execution) as running:
        try:
            for _ in running.blocks():
                pass
        except KeyboardInterrupt:
            execution.cancel()
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline and not execution.has_ended(SLICE_S):
                pass
            raise


def blocks(execution: Any) -> list[Any]:
    """All blocks, unread."""
    with _Running(execution) as running:
        return list(running.blocks())


class _Running:
    """An execution under way, with its progress."""

    def __init__(self, execution: Any) -> None:
        self._execution = execution
        self._progress = _Progress(execution) if DataContext.get_current().enable_progress_bars else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._execution.cancel()
        if self._progress:
            self._progress.close()

    def blocks(self) -> Iterator[Any]:
        complain_at = time.monotonic() + PATIENCE_S
        while True:
            is_over, block = self._execution.next(SLICE_S)
            if self._progress:
                self._progress.show()
            if is_over:
                return
            if time.monotonic() >= complain_at:
                complain_at += 6 * PATIENCE_S
                if waiting := self._execution.waiting_stages():
                    _LOGGER.warning(
                        "%s: no worker has started yet. The cluster may be busy (see `aktis status`), or the function "
                        "takes long to load.", " and ".join(waiting),
                    )  # fmt: skip
            if block is not None:
                yield block


class _Progress:
    """Lines per stage on standard error: rewritten on a terminal, repeated now and then in a notebook, else nothing."""

    def __init__(self, execution: Any) -> None:
        self._execution = execution
        self._stream = sys.stderr
        self._is_terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._is_shown = self._is_terminal or _in_notebook()
        self._next = time.monotonic() + QUIET_S
        self._lines_up = 0

    def show(self) -> None:
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + (SLICE_S if self._is_terminal else PLAIN_INTERVAL_S)
            self._write()

    def close(self) -> None:
        if self._lines_up:
            self._write()

    def _write(self) -> None:
        lines = self._execution.progress_lines()
        up = f"\x1b[{self._lines_up}A" if self._is_terminal and self._lines_up else ""
        clear = "\x1b[2K" if self._is_terminal else ""
        self._stream.write(up + "".join(f"{clear}{line}\n" for line in lines))
        self._stream.flush()
        self._lines_up = len(lines)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell is not None else None
    return instance is not None and type(instance).__name__ == "ZMQInteractiveShell"
