"""Workers that hold more memory than was asked for them: they are ended, and told by name; their batches are cut."""

# Functions are made for one test, and arguments are given as dicts.
# pyright: reportArgumentType=false

import collections
import time

import aktis
import aktis.data
import numpy as np
import pytest
from aktis.data import ActorPoolStrategy
from aktis.exceptions import OutOfMemoryError
from waiting import DEADLINE_S, until

from .poisoned import check, dead_ids, ids_of

MEMORY = 256 << 20
#: Four of them have room beside what a process needs anyway, and eight have not.
ROW_BYTES = 40 << 20


def hold(size):
    """Holds memory; more than there may be until the process is ended."""
    held = bytearray(b"x") * size
    if len(held) >= MEMORY:
        time.sleep(DEADLINE_S)
        raise AssertionError("nobody has ended this process")


def hungry(batch):
    hold(len(batch["id"]) * ROW_BYTES)
    return batch


def greedy(batch):
    if 5 in batch["id"]:
        hold(MEMORY)
    return batch


class Hungry:
    def __call__(self, batch):
        return hungry(batch)


class TestTasksAndActors:
    def test_who_holds_more_than_asked_for_is_ended_and_told(self):
        @aktis.remote(memory=MEMORY, max_retries=0)
        def eat():
            hold(MEMORY)

        with pytest.raises(OutOfMemoryError, match=r"held \d+.* MiB, and memory=256 MiB is what it may hold.*memory="):
            aktis.get(eat.remote(), timeout=DEADLINE_S)

        @aktis.remote(memory=MEMORY)
        class Eater:
            def eat(self, size):
                hold(size)
                return size

        eater = Eater.remote()
        assert aktis.get(eater.eat.remote(ROW_BYTES), timeout=DEADLINE_S) == ROW_BYTES
        with pytest.raises(OutOfMemoryError, match="actor Eater .* is dead.*memory=256 MiB"):
            aktis.get(eater.eat.remote(MEMORY), timeout=DEADLINE_S)
        until(lambda: aktis.available_resources().get("CPU") == 2, "all processors are free again")

    def test_objects_of_the_store_count_for_nobody(self):
        @aktis.remote(memory=MEMORY)
        def read(*parts):
            time.sleep(0.5)
            return int(sum(part.sum() for part in parts))

        parts = [aktis.put(np.ones(32 << 20, np.uint8)) for _ in range(10)]
        assert aktis.get(read.remote(*parts), timeout=DEADLINE_S) == 320 << 20


class TestBatches:
    @pytest.mark.parametrize(
        ("compute", "on_error", "inputs"), [("tasks", "raise", 2), ("actors", "raise", 2), ("tasks", "skip", 1)]
    )
    def test_are_cut_until_they_have_room(self, compute, on_error, inputs):
        called = {"fn": hungry} if compute == "tasks" else {"fn": Hungry, "compute": ActorPoolStrategy(size=1)}
        ds = aktis.data.range(16 * inputs, override_num_blocks=inputs)
        ds = ds.map_batches(**called, batch_size=16, memory=MEMORY, on_error=on_error, num_cpus=1)
        assert ids_of(ds.take_all()) == collections.Counter(range(16 * inputs))
        stats = ds.stats()
        assert "workers died and were replaced" in stats
        if on_error == "raise":
            assert "its calls have at most 4 rows: with more, workers held more memory than they may" in stats

    def test_row_that_has_no_room_alone_ends_the_job_by_name(self):
        ds = aktis.data.range(20, override_num_blocks=1).map_batches(greedy, batch_size=4, memory=MEMORY)
        said = r"MapBatches\(greedy\): a call with a row alone \(number 5 of input 0\).*memory=256 MiB.*on_error="
        with pytest.raises(OutOfMemoryError, match=said):
            ds.take_all()

    def test_row_that_has_no_room_alone_is_left_out_where_that_may_be(self):
        ds = aktis.data.range(20).map_batches(greedy, batch_size=4, memory=MEMORY, on_error="dead_letter")
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [5], rows=20)
        (letter,) = ds.dead_letters().take_all()
        assert letter["error"] == "OutOfMemoryError"
        assert "memory=256 MiB is what it may hold" in letter["message"]

    def test_what_a_generator_gives_is_not_held(self):
        """It is ended, and not told by rows: each try would hold all that it gives."""

        def gives(batch):
            hold(MEMORY)
            yield batch

        ds = aktis.data.range(20, override_num_blocks=1).map_batches(gives, memory=MEMORY)
        with pytest.raises(OutOfMemoryError, match="4 worker processes died over it.*memory=256 MiB"):
            ds.take_all()
