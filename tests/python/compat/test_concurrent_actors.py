"""Async and threaded actors, and concurrency groups."""

import asyncio
import threading
import time

import pytest

from .system import DEADLINE_S, IS_RAY, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
class Gate:
    """An async actor whose `wait` returns only after `open`: both must run at the same time."""

    def __init__(self):
        self.event = asyncio.Event()
        self.waiting = 0

    async def wait(self):
        self.waiting += 1
        await self.event.wait()
        return "passed"

    async def open(self):
        self.event.set()

    async def count(self):
        return self.waiting

    async def fail(self):
        raise ValueError("async")


def test_methods_of_an_async_actor_interleave():
    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(20)]
    assert ray.wait(waiting, timeout=0.2)[0] == []
    get(gate.open.remote())
    assert get(waiting) == ["passed"] * 20


def test_a_thousand_calls_wait_in_one_async_actor():
    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(900)]
    deadline = time.monotonic() + DEADLINE_S
    while get(gate.count.remote()) < 900 and time.monotonic() < deadline:
        time.sleep(0.02)
    get(gate.open.remote())
    assert get(waiting) == ["passed"] * 900


def test_the_number_of_running_calls_of_an_async_actor_can_be_limited():
    gate = Gate.options(max_concurrency=2).remote()
    waiting = [gate.wait.remote() for _ in range(2)]
    opening = gate.open.remote()
    assert ray.wait([opening], timeout=0.5)[0] == [], "the third call waits for a free slot"
    ray.kill(gate)
    del waiting


def test_an_async_error_is_delivered():
    with pytest.raises(ValueError, match="async"):
        get(Gate.remote().fail.remote())


def test_async_methods_await_references_and_other_actors():
    @ray.remote
    def slow_add(x):
        time.sleep(0.1)
        return x + 1

    @ray.remote
    class Chain:
        async def run(self, x):
            values = await asyncio.gather(slow_add.remote(x), slow_add.remote(x + 1))
            return values + [await ray.put(0)]

    assert get(Chain.remote().run.remote(1)) == [2, 3, 0]


def test_references_resolve_to_values_for_async_methods():
    @ray.remote
    class Echo:
        async def same(self, x):
            return x

    assert get(Echo.remote().same.remote(ray.put(bytes(300_000)))) == bytes(300_000)


def test_plain_methods_of_an_async_actor_run_in_its_event_loop():
    @ray.remote
    class Mixed:
        def plain(self):
            return threading.current_thread().name

        async def coroutine(self):
            return threading.current_thread().name

    mixed = Mixed.remote()
    assert get(mixed.plain.remote()) == get(mixed.coroutine.remote())


def test_an_async_actor_starts_calls_of_one_caller_in_order():
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        async def note(self, i):
            self.seen.append(i)

        async def read(self):
            return self.seen

    log = Log.remote()
    get([log.note.remote(i) for i in range(200)])
    seen = get(log.read.remote())
    assert sorted(seen) == list(range(200))
    assert IS_RAY or seen == list(range(200)), "Ray promises no order for async actors"


def test_a_threaded_actor_runs_that_many_calls_at_once():
    @ray.remote(max_concurrency=3)
    class Threaded:
        def __init__(self):
            self.barrier = threading.Barrier(3, timeout=DEADLINE_S)

        def meet(self):
            self.barrier.wait()
            return threading.get_ident()

    threaded = Threaded.remote()
    assert len(set(get([threaded.meet.remote() for _ in range(3)]))) == 3


def test_a_plain_actor_runs_one_call_at_a_time_on_one_thread():
    @ray.remote
    class Plain:
        def __init__(self):
            self.running = 0
            self.thread = threading.get_ident()

        def work(self):
            self.running += 1
            time.sleep(0.01)
            self.running -= 1
            return self.running, threading.get_ident() == self.thread

    plain = Plain.remote()
    assert get([plain.work.remote() for _ in range(20)]) == [(0, True)] * 20


def test_threads_of_a_threaded_actor_can_get_and_call():
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote(max_concurrency=4)
    class Threaded:
        def run(self, x):
            return get(double.remote(x))

    threaded = Threaded.remote()
    assert get([threaded.run.remote(i) for i in range(20)]) == [2 * i for i in range(20)]


def test_concurrency_groups_do_not_block_each_other():
    @ray.remote(concurrency_groups={"io": 2, "compute": 1})
    class Grouped:
        def __init__(self):
            self.event = threading.Event()

        @ray.method(concurrency_group="compute")
        def block(self):
            return self.event.wait(DEADLINE_S)

        @ray.method(concurrency_group="io")
        def release(self):
            self.event.set()
            return "released"

        def default_group(self):
            return "default"

    grouped = Grouped.remote()
    blocked = grouped.block.remote()
    assert get(grouped.default_group.remote()) == "default"
    assert get(grouped.release.remote()) == "released"
    assert get(blocked) is True
    assert get(grouped.default_group.options(concurrency_group="io").remote()) == "default"


@pytest.mark.skipif(IS_RAY, reason="Ray accepts it, and fails later in its log only")
def test_max_concurrency_below_one_is_refused():
    with pytest.raises(ValueError):
        Gate.options(max_concurrency=0).remote()


def test_killing_an_async_actor_fails_its_waiting_calls():
    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(5)]
    get(gate.count.remote())
    ray.kill(gate)
    for ref in waiting:
        with pytest.raises(exceptions.RayActorError):
            get(ref)


def test_an_async_task_is_refused_or_run():
    # Ray refuses `async def` remote functions.
    async def coroutine():
        return 1

    try:
        assert get(ray.remote(coroutine).remote()) == 1
    except (ValueError, TypeError) as error:
        assert "async" in str(error) or "asyncio" in str(error) or "coroutine" in str(error)
