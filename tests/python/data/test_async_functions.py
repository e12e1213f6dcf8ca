"""Async functions and classes: one loop per worker, calls that overlap, outputs that leave as they come."""

import asyncio
import os
import signal
import threading
import time

import aktis.data
import pytest
from aktis.data import ActorPoolStrategy
from aktis.data._overlapping import Outputs, Overlapping, Threads
from waiting import DEADLINE_S, until


class Meeting:
    """Calls that end only when so many of them are under way."""

    def __init__(self, size):
        self.size = size
        self.present = 0
        self.has_met = False

    async def __call__(self, batch):
        self.present += 1
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while not self.has_met:
            self.has_met = self.present >= self.size
            assert asyncio.get_running_loop().time() < deadline, f"only {self.present} calls are under way"
            await asyncio.sleep(0.001)
        return batch


@pytest.mark.parametrize("options", [
    {"compute": ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=8)},
    {"concurrency": 1, "max_concurrency": 8},
])  # fmt: skip
def test_calls_of_one_actor_overlap(options):
    ds = aktis.data.range(32, override_num_blocks=32)
    ds = ds.map_batches(Meeting, fn_constructor_args=(8,), batch_size=1, **options)
    assert [row["id"] for row in ds.take_all()] == list(range(32))


def test_four_calls_overlap_if_nothing_is_said_and_batches_have_no_size():
    ds = aktis.data.range(64).map_batches(Meeting, fn_constructor_args=(4,), concurrency=1)
    assert ds.count() == 64


class Slow:
    """The first call ends when so many others have, of which so many at most may be under way at once."""

    def __init__(self, others, most):
        self.others, self.most = others, most
        self.under_way = self.ended = 0

    def begin(self, batch):
        self.under_way += 1
        assert self.under_way <= self.most, f"{self.under_way} calls are under way"
        return 0 in batch["id"].tolist()

    def end(self, batch):
        self.under_way -= 1
        self.ended += 1
        return batch

    async def __call__(self, batch):
        is_first = self.begin(batch)
        deadline = time.monotonic() + DEADLINE_S
        # Those before it tell what a call holds.
        while is_first and self.ended < self.others:
            assert time.monotonic() < deadline, f"only {self.ended} calls have ended"
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        return self.end(batch)


class SlowOnThreads(Slow):
    lock = threading.Lock()

    def __call__(self, batch):
        with self.lock:
            is_first = self.begin(batch)
        deadline = time.monotonic() + DEADLINE_S
        while is_first and self.ended < self.others:
            assert time.monotonic() < deadline, f"only {self.ended} calls have ended"
            time.sleep(0.001)
        time.sleep(0.001)
        with self.lock:
            return self.end(batch)


@pytest.mark.parametrize(("function", "options"), [(Slow, {}), (SlowOnThreads, {"enable_true_multi_threading": True})])
def test_a_slow_call_holds_up_no_others_that_come_after_it(function, options):
    # Rows 5 and 6 have shown what calls hold when the slow one begins.
    order = [5, 6, 0, *range(7, 200)]
    ds = aktis.data.from_items([{"id": number} for number in order], override_num_blocks=1)
    pool = ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=4, **options)
    ds = ds.map_batches(function, fn_constructor_args=(100, 4), batch_size=1, compute=pool)
    assert [row["id"] for row in ds.take_all()] == order


class Company(Slow):
    """No call ends but in company of so many, except the last ones of all."""

    def __init__(self, size, rows):
        super().__init__(0, size)
        self.begun, self.rows = 0, rows

    async def __call__(self, batch):
        self.begin(batch)
        self.begun += 1
        deadline = time.monotonic() + DEADLINE_S
        while self.under_way < self.most and self.begun < self.rows:
            assert time.monotonic() < deadline, f"only {self.under_way} calls are under way after {self.begun}"
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        return self.end(batch)


@pytest.mark.parametrize("pause_s", [0, 0.1])
def test_calls_of_the_next_input_begin_while_the_last_ones_are_under_way(pause_s):
    # An input is at least eight rows, and comes while the one before it is at its end, or later.
    def make(batch):
        time.sleep(pause_s)
        return batch

    ds = aktis.data.range(64, override_num_blocks=8).map_batches(make)
    pool = ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=4)
    ds = ds.map_batches(Company, fn_constructor_args=(4, 64), batch_size=1, compute=pool, num_gpus=1)
    assert [row["id"] for row in ds.take_all()] == list(range(64))


class DiesOnce(Company):
    """Its process ends when so many calls have begun, the first time."""

    def __init__(self, size, rows, at, path):
        super().__init__(size, rows)
        self.at, self.path = at, path

    async def __call__(self, batch):
        if self.path.exists():
            # Its inputs are alone now.
            self.rows = 0
        elif self.begun >= self.at:
            self.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().__call__(batch)


@pytest.mark.parametrize("at", [5, 7, 8, 9, 12])
def test_inputs_of_a_worker_that_dies_with_two_are_written_once(at, tmp_path):
    ds = aktis.data.range(64, override_num_blocks=8)
    pool = ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=4)
    arguments = (4, 64, at, tmp_path / "died")
    ds = ds.map_batches(DiesOnce, fn_constructor_args=arguments, batch_size=1, compute=pool)
    ds.write_parquet(str(tmp_path / "out"))
    assert (tmp_path / "died").exists()
    assert sorted(aktis.data.read_parquet(str(tmp_path / "out")).to_pandas()["id"]) == list(range(64))


def test_rows_of_async_functions_overlap_and_keep_their_order():
    class Rows(Meeting):
        async def __call__(self, row):
            await super().__call__(row)
            return {"id": row["id"], "square": row["id"] ** 2}

    ds = aktis.data.range(20).map(Rows, fn_constructor_args=(4,), concurrency=1)
    assert [row["square"] for row in ds.take_all()] == [i * i for i in range(20)]


def test_filters_and_flat_maps_may_be_async():
    async def is_even(row):
        await asyncio.sleep(0)
        return row["id"] % 2 == 0

    async def twice(row):
        for _ in range(2):
            await asyncio.sleep(0)
            yield {"id": row["id"]}

    ds = aktis.data.range(6).filter(is_even).flat_map(twice)
    assert [row["id"] for row in ds.take_all()] == [0, 0, 2, 2, 4, 4]


def test_all_calls_of_an_actor_run_on_one_loop():
    class Client:
        def __init__(self):
            self.loop = None

        async def __call__(self, batch):
            loop = asyncio.get_running_loop()
            assert self.loop in (None, loop), "another loop"
            self.loop = loop
            return batch

    assert aktis.data.range(40).map_batches(Client, batch_size=2, concurrency=1).count() == 40


def test_outputs_of_an_async_generator_leave_before_it_ends():
    class Endless:
        async def __call__(self, batch):
            number = 0
            while True:
                yield {"number": [number]}
                number += 1

    ds = aktis.data.range(1).map_batches(Endless, concurrency=1).limit(2)
    assert [row["number"] for row in ds.take_all()] == [0, 1]


def test_calls_of_a_class_that_bears_it_overlap_on_threads():
    class Threaded:
        def __init__(self):
            self.barrier = threading.Barrier(2)

        def __call__(self, batch):
            self.barrier.wait(DEADLINE_S)
            return batch

    compute = ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True)
    ds = aktis.data.range(8).map_batches(Threaded, batch_size=1, compute=compute)
    assert [row["id"] for row in ds.take_all()] == list(range(8))


def test_exception_of_an_async_function_keeps_its_type_and_traceback():
    async def fail(batch):
        await asyncio.sleep(0)
        raise KeyError("the key")

    with pytest.raises(KeyError, match="the key") as caught:
        aktis.data.range(10).map_batches(fail, batch_size=2).take_all()
    assert "in fail" in str(caught.value) or "in fail" in "".join(getattr(caught.value, "__notes__", []))


def test_a_generator_that_nobody_reads_waits():
    made = []

    async def numbers():
        for number in range(100):
            made.append(number)
            yield number

    calls = Overlapping()
    outputs = calls.begin(numbers)
    assert next(outputs) == 0
    until(lambda: len(made) >= 2, "the generator runs ahead")
    assert len(made) <= 4
    calls.forget(outputs)
    until(lambda: not calls._running, "a call that was forgotten ends")


def test_threads_hand_over_outputs_and_failures():
    def numbers():
        yield 1
        raise ValueError("no more")

    outputs = Threads(2).begin(numbers)
    assert isinstance(outputs, Outputs)
    assert next(outputs) == 1
    with pytest.raises(ValueError, match="no more"):
        next(outputs)


@pytest.mark.parametrize("is_async", [False, True])
def test_thousand_outputs_of_a_call_come_in_order_and_take_the_memory_of_few(is_async):
    def output(number):
        with open("/proc/self/statm") as own:
            resident = int(own.read().split()[1]) * 4096
        return {"number": [number], "bytes": [resident], "data": [bytes(300_000)]}

    def plain(batch):
        for number in range(1000):
            yield output(number)

    async def later(batch):
        for number in range(1000):
            if number % 100 == 0:
                await asyncio.sleep(0)
            yield output(number)

    limits = aktis.data.DataContext.get_current().execution_options.resource_limits
    limits.object_store_memory = 32 << 20
    try:
        ds = aktis.data.range(1).map_batches(later if is_async else plain, concurrency=1)
        rows = [(row["number"], row["bytes"]) for row in ds.iter_rows()]
    finally:
        limits.object_store_memory = None
    assert [number for number, _ in rows] == list(range(1000))
    resident = [size for _, size in rows]
    # All of them are 300 MB.
    assert max(resident) - resident[0] < 150 << 20
