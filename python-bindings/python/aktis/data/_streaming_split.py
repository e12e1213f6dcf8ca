"""One run of a dataset, shared by several consumers while it is under way.

```text
 consumer 0 ─ arrive, take, leave ─┐
 consumer 1 ───────────────────────┤► Coordinator (an actor) ── a thread per epoch ──► the run
 consumer 2 ───────────────────────┘         │ Shares: who gets which rows
                                             ▼
                              parts of blocks; consumers read them from the object store
```
An *epoch* is one run: it begins when all consumers have arrived. No call of the coordinator waits for long: consumers ask
again, so that one that is interrupted or killed holds up no thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from aktis._session.logging_level import logger

from . import _parts, _running
from ._context import DataContext
from ._shares import EqualShares, Shares
from .iterator import DataIterator

if TYPE_CHECKING:
    import pyarrow

    from ._schema import Schema
    from .dataset import Dataset, MaterializedDataset

#: How long a call of the coordinator waits for news, in seconds.
_SLICE_S = 0.5
#: After so long alone, somebody should look at where the other consumers are.
_PATIENCE_S = 20.0

_LOGGER = logger("aktis.data")


def iterators(dataset: Dataset, n: int, *, is_equal: bool) -> list[SharedIterator]:
    """An iterator for each of ``n`` consumers."""
    import aktis

    # A thread for each consumer that waits, and some for those that ask for columns and statistics.
    actor = aktis.remote(num_cpus=0, max_concurrency=n + 2)(Coordinator)
    coordinator = actor.remote(dataset, n, is_equal, DataContext.get_current())
    return [SharedIterator(coordinator, index) for index in range(n)]


class SharedIterator(DataIterator):
    """A consumer's share of each run."""

    def __init__(self, coordinator: Any, index: int) -> None:
        self._coordinator = coordinator
        self._index = index

    def _ask(self, method: str, *args: Any) -> Any:
        import aktis

        return aktis.get(getattr(self._coordinator, method).remote(*args))

    def _begin(self) -> tuple[Iterator[pyarrow.RecordBatch], Callable[[], None]]:
        ended = threading.Event()

        def batches() -> Iterator[Any]:
            for part in self._parts(ended):
                yield from _parts.table_of(part).to_batches()

        return batches(), ended.set

    def _parts(self, ended: threading.Event) -> Iterator[_parts.Part]:
        """The parts of a new epoch; ``ended``: nobody wants the rest."""
        epoch = self._ask("arrive", self._index)
        try:
            complain_at = time.monotonic() + _PATIENCE_S
            while (missing := self._ask("missing", epoch)) and not ended.is_set():
                if time.monotonic() >= complain_at:
                    complain_at += 3 * _PATIENCE_S
                    _LOGGER.warning(
                        "streaming_split(): consumer %d waits for others that have not begun to iterate: %s. A run begins when "
                        "all have; consumers of one process need threads.",
                        self._index, ", ".join(map(str, missing)),
                    )  # fmt: skip
            complain_at = time.monotonic() + _PATIENCE_S
            is_starved = False
            while not ended.is_set():
                is_over, part = self._ask("take", epoch, self._index, is_starved)
                is_starved = part is None
                if is_over:
                    return
                if part is not None:
                    yield part
                    complain_at = time.monotonic() + _PATIENCE_S
                elif time.monotonic() >= complain_at:
                    complain_at += 3 * _PATIENCE_S
                    if slow := self._ask("waits_for", self._index):
                        _LOGGER.warning(
                            "streaming_split(): consumer %d gets no more rows before these have taken theirs: %s. One "
                            "that has died holds up the others.", self._index, ", ".join(map(str, slow)),
                        )  # fmt: skip
        finally:
            # The end of the process ends the actor, and nothing can be called any more.
            if not sys.is_finalizing():
                self._coordinator.leave.remote(epoch, self._index)

    def schema(self) -> Schema | None:
        schema: Schema | None = self._ask("schema")
        return schema

    def stats(self) -> str:
        return str(self._ask("stats"))

    def dead_letters(self, operator: str | None = None) -> Dataset:
        letters: Dataset = self._ask("dead_letters", operator)
        return letters

    def world_size(self) -> int:
        """How many consumers share the runs.

        Returns:
            The number that :meth:`Dataset.streaming_split` was given.

        >>> import aktis.data
        >>> aktis.data.range(1).streaming_split(2)[0].world_size()
        2
        """
        return int(self._ask("world_size"))

    def materialize(self) -> MaterializedDataset:
        from .dataset import MaterializedDataset

        parts = list(self._parts(threading.Event()))
        return MaterializedDataset(self._ask("columns"), parts)

    def __repr__(self) -> str:
        return f"DataIterator(share {self._index} of a dataset)"


class _Epoch:
    """One run."""

    def __init__(self, number: int, consumers: int, is_equal: bool) -> None:
        self.number = number
        self.shares = (EqualShares if is_equal else Shares)(consumers)
        self.failure: BaseException | None = None
        self.is_running = False


class Coordinator:
    """Runs the dataset and says who gets which rows."""

    def __init__(self, dataset: Dataset, consumers: int, is_equal: bool, context: DataContext) -> None:
        DataContext._current = context
        self._dataset = dataset
        self._consumers = consumers
        self._is_equal = is_equal
        #: Guards all that follows, and tells of every change.
        self._news = threading.Condition()
        self._epoch = _Epoch(0, consumers, is_equal)
        self._arrived: set[int] = set()

    def arrive(self, consumer: int) -> int:
        """This consumer is there for the next epoch, whose number this is."""
        with self._news:
            number = self._epoch.number + 1
            self._arrived.add(consumer)
            if len(self._arrived) == self._consumers:
                self._arrived.clear()
                self._epoch = _Epoch(number, self._consumers, self._is_equal)
                self._epoch.is_running = True
                threading.Thread(target=self._run, args=(self._epoch,), name="aktis-split", daemon=True).start()
                self._news.notify_all()
            return number

    def missing(self, number: int) -> list[int]:
        """The consumers that this epoch waits for; waits a moment for them. None of them: it has begun."""
        with self._news:
            self._news.wait_for(lambda: self._epoch.number >= number, _SLICE_S)
            if self._epoch.number >= number:
                return []
            return [consumer for consumer in range(self._consumers) if consumer not in self._arrived]

    def take(self, number: int, consumer: int, is_starved: bool) -> tuple[bool, _parts.Part | None]:
        """Whether the consumer has had everything of this epoch; and rows, if some come in a moment. ``is_starved``: none came
        the last time."""
        deadline = time.monotonic() + _SLICE_S
        with self._news:
            while True:
                epoch = self._epoch
                if epoch.number != number:
                    raise ValueError(
                        f"streaming_split(): consumer {consumer} reads on while all have begun anew: an iterator of a share is "
                        "used once at a time"
                    )
                if epoch.failure is not None:
                    raise epoch.failure
                part = epoch.shares.take(consumer, is_starved=is_starved)
                if part is not None:
                    self._news.notify_all()
                    return False, part
                if epoch.shares.is_over(consumer):
                    return True, None
                left = deadline - time.monotonic()
                if left <= 0:
                    return False, None
                self._news.wait(left)

    def waits_for(self, consumer: int) -> list[int]:
        """Those that must take rows before this one can have more."""
        with self._news:
            return self._epoch.shares.waits_for(consumer)

    def leave(self, number: int, consumer: int) -> None:
        """The consumer wants no more of this epoch, or does not wait for it any more."""
        with self._news:
            if self._epoch.number < number:
                self._arrived.discard(consumer)
            elif self._epoch.number == number:
                self._epoch.shares.leave(consumer)
                self._news.notify_all()

    def _run(self, epoch: _Epoch) -> None:
        try:
            with contextlib.closing(self._parts()) as parts:
                for part in parts:
                    with self._news:
                        epoch.shares.put(part)
                        self._news.notify_all()
                        self._news.wait_for(lambda: self._is_in_vain(epoch) or not epoch.shares.is_full())
                        if self._is_in_vain(epoch):
                            return
        except BaseException as error:  # noqa: BLE001 - it is raised where consumers wait
            epoch.failure = error
        finally:
            with self._news:
                epoch.is_running = False
                epoch.shares.end()
                self._news.notify_all()

    def _is_in_vain(self, epoch: _Epoch) -> bool:
        return epoch.shares.everybody_left() or self._epoch is not epoch

    def _parts(self) -> Generator[_parts.Part]:
        execution = _running.start(self._dataset._plan, ordered=True)
        self._dataset._stats = execution
        with contextlib.closing(_running.each_block(execution)) as blocks:
            for block in blocks:
                yield _parts.of_block(block, is_whole=False)

    def schema(self) -> Schema | None:
        """The columns, if nothing has to be run beside a run to know them."""
        known: Schema | None = self._dataset.schema(fetch_if_missing=False)
        if known is None and self._epoch.is_running:
            raise RuntimeError(
                "streaming_split(): only a function knows the columns, and has told none yet in the run that is under way: call "
                "schema() before or after it"
            )
        return self._dataset.schema() if known is None else known

    def columns(self) -> Any:
        """The columns of the rows that the last run has made."""
        return self._dataset._columns_of_run()

    def stats(self) -> str:
        """Of the last run."""
        return str(self._dataset.stats())

    def dead_letters(self, operator: str | None) -> Dataset:
        """Those of the last run."""
        return self._dataset.dead_letters(operator)

    def world_size(self) -> int:
        """How many consumers there are."""
        return self._consumers
