"""``cancel`` beyond what Ray promises: whom it hits, how soon, and that it hits nobody else."""

import asyncio
import pathlib
import random
import threading
import time

import aktis
import pytest

pytestmark = pytest.mark.usefixtures("session")

DEADLINE_S = 30


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_everything_idle():
    return aktis.available_resources().get("CPU") == aktis.cluster_resources()["CPU"]


@aktis.remote(max_retries=0)
def sleep_at_once(path, seconds=60):
    open(path, "w").close()
    time.sleep(seconds)


def test_sleep_is_interrupted(tmp_path):
    marker = tmp_path / "started"
    ref = sleep_at_once.remote(str(marker))
    until(marker.exists)
    aktis.cancel(ref)
    with pytest.raises(aktis.exceptions.TaskCancelledError, match="sleep_at_once was cancelled"):
        aktis.get(ref, timeout=DEADLINE_S)


def test_a_task_that_waits_in_get_is_interrupted(tmp_path):
    @aktis.remote(max_retries=0)
    def waiting(refs, path):
        open(path, "w").close()
        return aktis.get(refs[0])

    never, marker = tmp_path / "never", tmp_path / "waiting"
    blocker = sleep_at_once.remote(str(never))
    ref = waiting.remote([blocker], str(marker))
    until(marker.exists)
    aktis.cancel(ref, recursive=False)
    with pytest.raises(aktis.exceptions.TaskCancelledError, match="waiting"):
        aktis.get(ref, timeout=DEADLINE_S)
    aktis.cancel(blocker)


def test_a_task_may_catch_its_interrupt(tmp_path):
    @aktis.remote
    def careful(path):
        try:
            open(path, "w").close()
            time.sleep(60)
        except KeyboardInterrupt:
            return "cleaned up"

    marker = tmp_path / "started"
    ref = careful.remote(str(marker))
    until(marker.exists)
    aktis.cancel(ref)
    assert aktis.get(ref, timeout=DEADLINE_S) == "cleaned up"


def test_an_interrupt_never_hits_another_task():
    @aktis.remote(max_retries=0)
    def short(number):
        end = time.perf_counter() + 0.0005
        while time.perf_counter() < end:
            pass
        return number

    chance = random.Random(7)
    for _ in range(20):
        refs = [short.remote(number) for number in range(100)]
        cancelled = set(chance.sample(range(100), 30))
        for number in sorted(cancelled):
            time.sleep(chance.random() * 0.001)
            aktis.cancel(refs[number])
        for number, ref in enumerate(refs):
            try:
                assert aktis.get(ref, timeout=DEADLINE_S) == number
            except aktis.exceptions.TaskCancelledError:
                assert number in cancelled


def test_force_spares_the_tasks_behind_the_one_it_kills(tmp_path):
    @aktis.remote(max_retries=0)
    def quick(number):
        return number

    aktis.get([quick.remote(0) for _ in range(50)])  # workers are warm, and several tasks are sent to one at a time
    for attempt in range(5):
        marker = tmp_path / str(attempt)
        victim = sleep_at_once.remote(str(marker))
        others = [quick.remote(number) for number in range(200)]
        until(marker.exists)
        aktis.cancel(victim, force=True)
        with pytest.raises(aktis.exceptions.TaskCancelledError):
            aktis.get(victim, timeout=DEADLINE_S)
        assert aktis.get(others, timeout=DEADLINE_S) == list(range(200))


def test_grandchildren_and_calls_are_cancelled_with_their_parent(tmp_path):
    @aktis.remote
    class Sleeper:
        async def sleep(self, path):
            pathlib.Path(path).touch()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pathlib.Path(path + ".cancelled").touch()
                raise

    @aktis.remote(max_retries=0)
    def child(actor, folder):
        refs = [sleep_at_once.remote(folder + "/grandchild"), actor.sleep.remote(folder + "/call")]
        try:
            aktis.get(refs)
        except KeyboardInterrupt:
            open(folder + "/child", "w").close()
            raise

    @aktis.remote(max_retries=0)
    def parent(actor, folder):
        return aktis.get(child.remote(actor, folder))

    actor = Sleeper.remote()
    ref = parent.remote(actor, str(tmp_path))
    until((tmp_path / "call").exists)
    until((tmp_path / "grandchild").exists)
    aktis.cancel(ref)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(ref, timeout=DEADLINE_S)
    until((tmp_path / "call.cancelled").exists)
    until(is_everything_idle)


def test_what_an_async_method_submits_is_its_own(tmp_path):
    """Two calls take turns on the loop; cancelling one must not cancel what the other has submitted."""

    @aktis.remote
    class Parent:
        async def submit(self, path, seconds):
            await asyncio.sleep(0.05)  # the other call has its turn
            return await sleep_at_once.remote(path, seconds)

    parent = Parent.remote()
    first, second = tmp_path / "first", tmp_path / "second"
    doomed = parent.submit.remote(str(first), 60)
    spared = parent.submit.remote(str(second), 1)
    until(first.exists)
    until(second.exists)
    aktis.cancel(doomed)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(doomed, timeout=DEADLINE_S)
    assert aktis.get(spared, timeout=DEADLINE_S) is None


def test_what_a_thread_of_a_task_submits_is_the_tasks(tmp_path):
    @aktis.remote(max_retries=0)
    def threaded(path):
        thread = threading.Thread(target=lambda: aktis.get(sleep_at_once.remote(path)), daemon=True)
        thread.start()
        while True:
            thread.join(0.05)

    marker = tmp_path / "started"
    ref = threaded.remote(str(marker))
    until(marker.exists)
    aktis.cancel(ref)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(ref, timeout=DEADLINE_S)
    until(is_everything_idle)


def test_an_async_call_that_has_not_begun_is_cancelled():
    @aktis.remote
    class One:
        async def sleep(self, seconds):
            await asyncio.sleep(seconds)
            return seconds

    one = One.options(max_concurrency=1).remote()
    first = one.sleep.remote(0.5)
    second = one.sleep.remote(60)
    third = one.sleep.remote(0)
    aktis.cancel(second)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(second, timeout=DEADLINE_S)
    assert aktis.get([first, third], timeout=DEADLINE_S) == [0.5, 0]


def test_thousands_of_queued_tasks_are_cancelled():
    refs = [sleep_at_once.options(resources={}).remote("/dev/null", 60) for _ in range(3000)]
    for ref in refs:
        aktis.cancel(ref)
    for ref in refs:
        with pytest.raises(aktis.exceptions.TaskCancelledError):
            aktis.get(ref, timeout=DEADLINE_S)
    assert aktis.get(aktis.remote(lambda: 1).remote(), timeout=DEADLINE_S) == 1
