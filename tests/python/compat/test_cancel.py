"""``cancel``: queued, running, forced, and in actors."""

import asyncio
import contextlib
import os
import pathlib
import time

import pytest

from .system import DEADLINE_S, SESSION_CPUS, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote(max_retries=0)
def sleep_for(seconds, marker=None):
    if marker:
        open(marker, "w").close()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return seconds


@ray.remote(max_retries=0)
def wait_for(path):
    until_exists(path)
    return "went on"


def until_exists(path):
    deadline = time.monotonic() + DEADLINE_S
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_queued_task_never_starts(tmp_path):
    marker = str(tmp_path / "started")
    gate = str(tmp_path / "gate")
    blockers = [wait_for.remote(gate) for _ in range(SESSION_CPUS)]
    queued = sleep_for.remote(0, marker)
    ray.cancel(queued)
    with pytest.raises(exceptions.TaskCancelledError):
        get(queued)
    open(gate, "w").close()
    get(blockers)
    assert not os.path.exists(marker)


def test_a_running_task_is_interrupted(tmp_path):
    marker = str(tmp_path / "started")
    ref = sleep_for.remote(60, marker)
    until_exists(marker)
    ray.cancel(ref)
    with pytest.raises(exceptions.RayError) as caught:
        ray.get(ref, timeout=DEADLINE_S)
    assert isinstance(caught.value, (exceptions.TaskCancelledError, exceptions.RayTaskError))


def test_a_forced_cancel_kills_the_worker(tmp_path):
    marker = str(tmp_path / "started")

    @ray.remote(max_retries=0)
    def stubborn(path):
        open(path, "w").close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(0.1)

    ref = stubborn.remote(marker)
    until_exists(marker)
    ray.cancel(ref, force=True)
    with pytest.raises((exceptions.WorkerCrashedError, exceptions.TaskCancelledError)):
        ray.get(ref, timeout=DEADLINE_S)


def test_cancelling_a_finished_task_does_nothing():
    ref = sleep_for.remote(0)
    assert get(ref) == 0
    ray.cancel(ref)
    assert get(ref) == 0


def test_a_task_waiting_for_its_argument_is_cancelled(tmp_path):
    gate = str(tmp_path / "gate")
    slow = wait_for.remote(gate)
    waiting = sleep_for.remote(slow)
    ray.cancel(waiting)
    with pytest.raises(exceptions.TaskCancelledError):
        get(waiting)
    open(gate, "w").close()
    assert get(slow) == "went on"


def test_an_async_method_is_cancelled():
    @ray.remote
    class Sleeper:
        async def sleep(self):
            await asyncio.sleep(60)

        async def ping(self):
            return "alive"

    sleeper = Sleeper.remote()
    ref = sleeper.sleep.remote()
    get(sleeper.ping.remote())
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=DEADLINE_S)
    assert get(sleeper.ping.remote()) == "alive"


def test_a_queued_method_is_cancelled_and_the_actor_lives(tmp_path):
    @ray.remote
    class Worker:
        def wait_for(self, path):
            until_exists(path)
            return "went on"

    worker = Worker.remote()
    gate = str(tmp_path / "gate")
    first, second = worker.wait_for.remote(gate), worker.wait_for.remote(gate)
    ray.cancel(second)
    with pytest.raises(exceptions.TaskCancelledError):
        get(second)
    open(gate, "w").close()
    assert get(first) == "went on"


def test_a_method_cannot_be_cancelled_by_force():
    @ray.remote
    class Worker:
        def sleep(self, seconds):
            time.sleep(seconds)

    ref = Worker.remote().sleep.remote(0.5)
    with pytest.raises(ValueError, match="force"):
        ray.cancel(ref, force=True)


def test_children_are_cancelled_with_their_parent(tmp_path):
    marker = tmp_path / "child"

    @ray.remote(max_retries=0)
    def parent(path):
        return ray.get(sleep_for.remote(60, path))

    ref = parent.remote(str(marker))
    until_exists(marker)
    ray.cancel(ref)
    with pytest.raises(exceptions.RayError):
        ray.get(ref, timeout=DEADLINE_S)


def test_cancel_takes_only_a_reference():
    with pytest.raises(TypeError):
        ray.cancel("not a reference")


def test_a_method_is_told_that_it_was_cancelled(tmp_path):
    @ray.remote
    class Patient:
        def work(self, path):
            open(path, "w").close()
            deadline = time.monotonic() + DEADLINE_S
            while not ray.get_runtime_context().is_canceled():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            open(path + ".seen", "w").close()
            return "seen"

        def is_canceled(self):
            return ray.get_runtime_context().is_canceled()

    for concurrency in (1, 2):
        marker = str(tmp_path / str(concurrency))
        actor = Patient.options(max_concurrency=concurrency).remote()
        ref = actor.work.remote(marker)
        until_exists(marker)
        ray.cancel(ref)
        with pytest.raises(exceptions.TaskCancelledError):
            get(ref)
        assert os.path.exists(marker + ".seen")
        assert get(actor.is_canceled.remote()) is False


def test_is_canceled_is_not_for_drivers_and_async_actors():
    @ray.remote
    class Async:
        async def ask(self):
            return ray.get_runtime_context().is_canceled()

    with pytest.raises(RuntimeError):
        ray.get_runtime_context().is_canceled()
    with pytest.raises(RuntimeError):
        get(Async.remote().ask.remote())


def test_a_running_generator_is_cancelled(tmp_path):
    @ray.remote(max_retries=0)
    def endless(path):
        number = 0
        while True:
            yield number
            number += 1
            open(path, "w").close()
            time.sleep(0.05)

    marker = str(tmp_path / "started")
    stream = endless.remote(marker)
    until_exists(marker)
    ray.cancel(stream)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in stream:
            get(ref)


def test_a_borrower_can_cancel(tmp_path):
    marker = str(tmp_path / "started")

    @ray.remote
    def cancel_inside(refs):
        ray.cancel(refs[0])

    ref = sleep_for.remote(60, marker)
    until_exists(marker)
    get(cancel_inside.remote([ref]))
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=DEADLINE_S)


def test_a_cancelled_task_is_not_retried(tmp_path):
    @ray.remote(max_retries=-1, retry_exceptions=True)
    def counted(folder):
        open(os.path.join(folder, str(len(os.listdir(folder)))), "w").close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)

    for force in (False, True):
        folder = tmp_path / str(force)
        folder.mkdir()
        ref = counted.remote(str(folder))
        until_exists(folder / "0")
        ray.cancel(ref, force=force)
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(ref, timeout=DEADLINE_S)
        get(sleep_for.remote(0))
        assert os.listdir(folder) == ["0"]


def test_cancelling_what_was_put_does_nothing():
    ref = ray.put(1)
    ray.cancel(ref)
    assert get(ref) == 1


def test_an_async_generator_is_cancelled(tmp_path):
    @ray.remote
    class Source:
        async def numbers(self, path):
            yield 1
            pathlib.Path(path).touch()
            await asyncio.sleep(60)

        async def ping(self):
            return "alive"

    marker = str(tmp_path / "started")
    source = Source.remote()
    stream = source.numbers.remote(marker)
    until_exists(marker)
    ray.cancel(stream)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in stream:
            ray.get(ref, timeout=DEADLINE_S)
    assert get(source.ping.remote()) == "alive"
