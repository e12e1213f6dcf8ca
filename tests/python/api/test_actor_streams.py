"""Streams of async actors: they overlap, wait for slow consumers, and hold no thread that anybody else needs.

Each loop's default executor has at most 36 threads here or on any machine of up to 32 CPUs; so many streams and more are open.
"""

import asyncio
import socket
import threading

import aktis
import numpy
import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 60
MANY = 40


@aktis.remote(num_cpus=0)
class Streams:
    def __init__(self):
        self.running = 0
        self.ended = 0
        self.made = 0
        self.barrier = threading.Barrier(MANY, timeout=DEADLINE_S)
        self.gate = asyncio.Event()

    async def of_stored(self, refs):
        self.running += 1
        while self.running < MANY:
            await asyncio.sleep(0.001)
        yield int((await refs[0])[0])

    async def until_released(self):
        self.running += 1
        yield "open"
        await self.gate.wait()

    def plain(self):
        self.barrier.wait()
        yield threading.current_thread() is not threading.main_thread()

    @aktis.method(_generator_backpressure_num_objects=1)
    async def slowly_read(self):
        try:
            for i in range(6):
                self.made = i + 1
                yield i
        finally:
            self.ended += 1

    async def failing(self):
        yield 1
        raise ValueError("after one item")

    async def pairs(self):
        yield 1
        yield 2

    async def await_beside_own_threads(self, refs):
        gate, loop = threading.Event(), asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, gate.wait, DEADLINE_S) for _ in range(MANY)]
        value = await refs[0]
        gate.set()
        await asyncio.gather(*busy)
        return int(value[0])

    async def resolve(self):
        loop = asyncio.get_running_loop()
        return len(await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))

    async def state(self):
        return self.running, self.made, self.ended

    async def release(self):
        self.gate.set()


@pytest.fixture
def actor(session):
    return Streams.remote()


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


def state(actor):
    return get(actor.state.remote())


def test_many_streams_await_stored_objects_at_once(actor):
    stored = aktis.put(numpy.full(1_000_000, 7))
    streams = [actor.of_stored.remote([stored]) for _ in range(MANY)]
    assert [get(list(stream)) for stream in streams] == [[7]] * MANY


def test_stored_objects_are_awaited_although_the_default_executor_is_busy(actor):
    stored = aktis.put(numpy.full(1_000_000, 7))
    assert get(actor.await_beside_own_threads.remote([stored])) == 7


def test_open_streams_do_not_delay_name_lookups(actor):
    streams = [actor.until_released.remote() for _ in range(MANY)]
    until(lambda: state(actor)[0] == MANY, "all streams run")
    assert get(actor.resolve.remote()) == 1
    get(actor.release.remote())
    assert [get(list(stream)) for stream in streams] == [["open"]] * MANY


def test_plain_generators_of_an_async_actor_overlap(actor):
    streams = [actor.plain.remote() for _ in range(MANY)]
    assert [get(list(stream)) for stream in streams] == [[True]] * MANY


def test_a_stream_waits_for_its_consumer_without_holding_up_the_loop(actor):
    stream = actor.slowly_read.remote()
    assert get(next(stream)) == 0
    until(lambda: state(actor)[1] == 2, "the next item is made")
    for _ in range(20):
        assert state(actor)[1] <= 3
    assert get(list(stream)) == [1, 2, 3, 4, 5]
    assert state(actor)[2] == 1


def test_a_stream_that_waits_for_its_consumer_is_cancelled(actor):
    stream = actor.slowly_read.remote()
    assert get(next(stream)) == 0
    until(lambda: state(actor)[1] >= 2, "the stream waits")
    aktis.cancel(stream)
    until(lambda: state(actor)[2] == 1, "the generator is closed")
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        for ref in stream:
            get(ref)


def test_an_error_of_a_stream_comes_after_its_items(actor):
    stream = actor.failing.remote()
    assert get(next(stream)) == 1
    with pytest.raises(ValueError, match="after one item"):
        get(next(stream))


def test_an_async_generator_may_give_a_fixed_number_of_results(actor):
    assert get(actor.pairs.options(num_returns=2).remote()) == [1, 2]


def test_a_method_that_blocks_in_one_concurrency_group_does_not_hold_up_another(session):
    @aktis.remote(num_cpus=0, concurrency_groups={"io": 1})
    class Grouped:
        def __init__(self):
            self.gate = threading.Event()

        async def block(self):
            return self.gate.wait(DEADLINE_S)

        async def open(self):
            self.gate.set()
            return aktis.get_runtime_context().get_actor_id()

    actor = Grouped.remote()
    blocked = actor.block.remote()
    assert get(actor.open.options(concurrency_group="io").remote()) == actor._actor_id.hex()
    assert get(blocked) is True
