"""Async actors: their event loop is the thread that reads calls, and still a loop like any other."""

import asyncio
import os
import threading
import time

import aktis
import numpy
import pytest

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 30


@aktis.remote
def later(seconds, value):
    time.sleep(seconds)
    return value


@aktis.remote
class Loop:
    def __init__(self):
        self.seen = []
        self.sleepers = 0

    async def note(self, number, _array=None):
        self.seen.append(number)

    async def log(self):
        return self.seen

    async def thread(self):
        return threading.current_thread() is threading.main_thread()

    async def add(self, refs):
        return sum(await asyncio.gather(*refs))

    async def get_in_a_thread(self, refs):
        return await asyncio.get_running_loop().run_in_executor(None, aktis.get, refs[0])

    async def call(self, other):
        return await other.note.remote(7), await other.log.remote()

    async def command(self, text):
        process = await asyncio.create_subprocess_exec("echo", text, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode().strip()

    async def talk(self, text):
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(text.encode() + b"\n")
            answer = await reader.readline()
            writer.close()
            return answer.decode().strip()

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)
        return seconds

    async def sleep_together(self, seconds, count):
        """Begins when so many calls of it are there, and notes its end."""
        self.sleepers += 1
        while self.sleepers < count:
            await asyncio.sleep(0)
        await asyncio.sleep(seconds)
        self.seen.append(seconds)

    async def block(self, seconds):
        time.sleep(seconds)  # noqa: ASYNC251 - what a user should not do, and does

    async def pid(self):
        return os.getpid()


@pytest.fixture
def actor(session):
    return Loop.remote()


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


def test_methods_run_on_the_main_thread(actor):
    assert get(actor.thread.remote())


@pytest.mark.parametrize("groups", [None, {"io": 2}], ids=["one loop", "groups"])
def test_the_constructor_of_an_async_actor_sees_the_loop_of_its_methods(groups):
    class Prepared:
        def __init__(self):
            self.loop = asyncio.get_event_loop()
            self.done = self.loop.create_task(self.prepare())

        async def prepare(self):
            await asyncio.sleep(0)
            return "prepared"

        async def result(self):
            assert asyncio.get_running_loop() is self.loop
            return await self.done

    prepare = aktis.remote(concurrency_groups=groups) if groups else aktis.remote
    assert get(prepare(Prepared).remote().result.remote()) == "prepared"


def test_a_constructor_may_run_coroutines_before_there_are_calls():
    @aktis.remote
    class Opened:
        def __init__(self):
            self.first = asyncio.get_event_loop().run_until_complete(asyncio.sleep(0.01, "first"))
            self.second = asyncio.run(asyncio.sleep(0, "second"))  # has a loop of its own, and leaves none behind

        async def both(self):
            await asyncio.sleep(0)
            return self.first, self.second

    assert get(Opened.remote().both.remote()) == ("first", "second")


def test_calls_start_in_order_also_behind_inputs_that_are_fetched(actor):
    large = aktis.put(numpy.zeros(1_000_000))
    for number in range(200):
        if number % 7 == 0:
            actor.note.remote(number, large)
        else:
            actor.note.remote(number)
    assert get(actor.log.remote()) == list(range(200))


def test_input_that_cannot_be_fetched_fails_its_call_and_no_other(actor):
    @aktis.remote
    def fail():
        raise ValueError("no input")

    with pytest.raises(ValueError, match="no input"):
        get(actor.note.remote(1, fail.remote()))
    get(actor.note.remote(2, aktis.put(numpy.zeros(1_000_000))))
    assert get(actor.log.remote()) == [2]


def test_references_are_awaited_on_the_loop(actor):
    assert get(actor.add.remote([later.remote(0.05, 1), later.remote(0, 2)])) == 3


def test_actors_call_each_other(actor):
    assert get(actor.call.remote(Loop.remote())) == (None, [7])


def test_blocking_get_in_a_thread_does_not_stop_the_loop(actor):
    slow = actor.get_in_a_thread.remote([later.remote(0.3, "late")])
    assert get(actor.sleep.remote(0)) == 0
    assert get(slow) == "late"


def test_sockets_and_subprocesses_of_the_loop_work(actor):
    assert get(actor.talk.remote("hello")) == "hello"
    assert get(actor.command.remote("hello")) == "hello"


def test_timers_end_in_their_order(actor):
    refs = [actor.sleep_together.remote(seconds, 3) for seconds in (0.3, 0.05, 0.15)]
    get(refs)
    assert get(actor.log.remote()) == [0.05, 0.15, 0.3]


def test_calls_made_while_a_method_blocks_the_loop_are_kept(actor):
    blocked = actor.block.remote(0.3)
    refs = [actor.sleep.remote(0) for _ in range(500)]
    assert get(refs) == [0] * 500
    get(blocked)


def test_answers_of_quick_calls_do_not_wait_for_a_slow_one(actor):
    slow = actor.sleep.remote(DEADLINE_S)
    for _ in range(20):
        assert get(actor.sleep.remote(0)) == 0
    aktis.cancel(slow)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        get(slow)
