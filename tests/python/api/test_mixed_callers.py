"""One driver that calls in all ways at the same time, from threads and from an event loop: every result is the right one."""

import asyncio
import threading

import aktis
import numpy as np
import pytest
from waiting import DEADLINE_S

pytestmark = pytest.mark.usefixtures("session")

ROUNDS = 30


def array_of(number, size=10_000):
    """80 kB that no other number gives."""
    return np.arange(size, dtype=np.float64) + number * size


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.value = 0

    def add(self, amount):
        self.value += amount
        return self.value


@aktis.remote(num_cpus=0)
class AsyncDoubler:
    async def double(self, value):
        await asyncio.sleep(0)
        return 2 * value


@aktis.remote
def square(number):
    return number * number


@aktis.remote
def sum_of_squares(count):
    return sum(aktis.get([square.remote(number) for number in range(count)], timeout=DEADLINE_S))


@aktis.remote
def doubled(array):
    return array * 2


@aktis.remote
def count_to(count):
    yield from range(count)


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


def calls_one_at_a_time():
    counter = Counter.remote()
    for number in range(ROUNDS * 20):
        assert get(counter.add.remote(1)) == number + 1
        assert get(square.remote(number)) == number * number


def bursts():
    counter = Counter.remote()
    for burst in range(ROUNDS):
        counts = [counter.add.remote(1) for _ in range(200)]
        squares = [square.remote(number) for number in range(100)]
        assert get(counts) == list(range(burst * 200 + 1, burst * 200 + 201))
        assert get(squares) == [number * number for number in range(100)]


def nested_tasks():
    for count in range(ROUNDS):
        refs = [sum_of_squares.remote(count + more) for more in range(3)]
        assert get(refs) == [sum(number * number for number in range(count + more)) for more in range(3)]


def arrays():
    for number in range(ROUNDS * 3):
        refs = [doubled.remote(array_of(number + more)) for more in range(4)]
        for more, result in enumerate(get(refs)):
            np.testing.assert_array_equal(result, array_of(number + more) * 2)


async def awaits_values(doubler):
    for number in range(ROUNDS * 10):
        assert await square.remote(number) == number * number
        assert await doubler.double.remote(number) == 2 * number


async def gathers_values(doubler):
    for base in range(ROUNDS):
        refs = [doubler.double.remote(base + number) for number in range(50)]
        assert await asyncio.gather(*refs) == [2 * (base + number) for number in range(50)]


async def awaits_arrays():
    for number in range(ROUNDS * 3):
        np.testing.assert_array_equal(await doubled.remote(array_of(number)), array_of(number) * 2)


async def reads_streams():
    for count in range(ROUNDS):
        assert [await ref async for ref in count_to.remote(count)] == list(range(count))


async def all_coroutines():
    doubler = AsyncDoubler.remote()
    await asyncio.gather(
        awaits_values(doubler), gathers_values(doubler), awaits_arrays(), reads_streams(), reads_streams()
    )


def test_threads_and_coroutines_that_call_in_all_ways_get_their_own_results():
    failures = []

    def run(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    works = (calls_one_at_a_time, bursts, nested_tasks, arrays)
    threads = [threading.Thread(target=run, args=(work,), name=work.__name__) for work in works]
    for thread in threads:
        thread.start()
    run(lambda: asyncio.run(asyncio.wait_for(all_coroutines(), 2 * DEADLINE_S)))
    for thread in threads:
        thread.join(2 * DEADLINE_S)
    assert failures == []
    assert [thread.name for thread in threads if thread.is_alive()] == []


def test_callbacks_of_futures_run_while_threads_wait_and_loops_await():
    counter = Counter.remote()
    squares, is_over = [], threading.Event()

    def note(future):
        squares.append(future.result())
        if len(squares) == 300:
            is_over.set()

    def make_futures():
        for number in range(300):
            square.remote(number).future().add_done_callback(note)

    async def add(count):
        return [await counter.add.remote(1) for _ in range(count)]

    thread = threading.Thread(target=make_futures)
    thread.start()
    added = asyncio.run(asyncio.wait_for(add(200), DEADLINE_S))
    thread.join(DEADLINE_S)
    assert added == list(range(1, 201))
    assert get(counter.add.remote(0)) == 200
    assert is_over.wait(DEADLINE_S)
    assert sorted(squares) == [number * number for number in range(300)]
