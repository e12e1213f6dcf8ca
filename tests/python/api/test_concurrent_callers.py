"""Threads and coroutines of one driver that call at the same time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import aktis
import pytest
from aktis import exceptions
from waiting import until

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 30


@aktis.remote
def square(x):
    return x * x


@aktis.remote
class Counter:
    def __init__(self):
        self.value = 0

    def add(self):
        self.value += 1
        return self.value


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


def test_two_threads_call_tasks_at_once():
    def work(base):
        return [get(square.remote(base + i)) for i in range(200)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, (0, 1000))
    assert first == [i * i for i in range(200)]
    assert second == [(1000 + i) ** 2 for i in range(200)]


def test_threads_share_an_actor_without_losing_calls():
    counter = Counter.remote()

    def work(_):
        return get([counter.add.remote() for _ in range(100)])

    with ThreadPoolExecutor(4) as pool:
        values = [value for values in pool.map(work, range(4)) for value in values]
    assert sorted(values) == list(range(1, 401))


def test_threads_export_one_function_at_once():
    @aktis.remote
    def fresh(x):
        return x + 1

    barrier = threading.Barrier(4)

    def work(x):
        barrier.wait()
        return get(fresh.remote(x))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [1, 2, 3, 4]


def test_gather_awaits_many_references():
    async def main():
        return await asyncio.gather(*(square.remote(i) for i in range(100)))

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == [i * i for i in range(100)]


def test_awaiting_leaves_the_loop_free():
    @aktis.remote
    class Gate:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()
            return "open"

        async def open(self):
            self.event.set()

    async def main():
        gate = Gate.remote()
        waiting = asyncio.ensure_future(_value(gate.wait.remote()))
        await gate.open.remote()
        return await waiting

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == "open"


async def _value(reference):
    return await reference


def test_a_cancelled_await_harms_nobody(tmp_path):
    @aktis.remote
    def slow(gate):
        until(gate.exists, "the gate opens")
        return "late"

    async def main():
        reference = slow.remote(tmp_path / "gate")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_value(reference), 0.05)
        (tmp_path / "gate").touch()
        return await reference

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == "late"


def test_a_future_of_a_failed_task_carries_its_error():
    @aktis.remote
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        fail.remote().future().result(timeout=DEADLINE_S)
    assert isinstance(caught.value, exceptions.TaskError)
