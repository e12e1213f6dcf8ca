"""Processes that are killed with much under way: every call ends, with its own result or with the right error."""

import asyncio
import os
import signal
import threading
import time

import aktis
import pytest
from aktis import exceptions
from waiting import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("session")

CALLS = 1000


@aktis.remote(num_cpus=0)
class Victim:
    def __init__(self):
        self.calls = 0

    def pid(self):
        return os.getpid()

    def call(self, number, payload=None):
        """Takes a moment, so that many calls are under way when it is killed."""
        self.calls += 1
        end = time.perf_counter() + 0.0005
        while time.perf_counter() < end:
            pass
        return number, self.calls

    def sleep(self):
        time.sleep(1000)


@aktis.remote(num_cpus=0)
class AsyncVictim:
    async def pid(self):
        return os.getpid()

    async def sleep(self):
        await asyncio.sleep(1000)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("payload_bytes", [0, 50_000])
def test_calls_to_a_killed_actor_are_answered_up_to_one_and_fail_from_there(payload_bytes):
    victim = Victim.remote()
    pid = aktis.get(victim.pid.remote(), timeout=DEADLINE_S)
    payload = bytes(payload_bytes)
    refs = [victim.call.remote(number, payload) for number in range(CALLS)]
    aktis.get(refs[200], timeout=DEADLINE_S)
    kill(pid)
    answered = []
    for number, ref in enumerate(refs):
        try:
            assert aktis.get(ref, timeout=DEADLINE_S) == (number, number + 1)
        except exceptions.ActorDiedError:
            continue
        answered.append(number)
    assert answered == list(range(len(answered))), "an answer after a failure"
    assert len(answered) > 200
    with pytest.raises(exceptions.ActorDiedError):
        aktis.get(victim.pid.remote(), timeout=DEADLINE_S)


def test_calls_to_a_killed_actor_that_may_be_repeated_are_all_answered():
    victim = Victim.options(max_restarts=-1, max_task_retries=-1).remote()
    first = aktis.get(victim.pid.remote(), timeout=DEADLINE_S)
    refs = [victim.call.remote(number) for number in range(CALLS)]
    for answered, pid in ((200, first), (500, None)):
        aktis.get(refs[answered], timeout=DEADLINE_S)
        # The second time it is the process that answers now; it may be away for a moment.
        kill(pid or aktis.get(victim.pid.remote(), timeout=DEADLINE_S))
        refs += [victim.call.remote(number) for number in range(len(refs), len(refs) + 100)]
    numbers = [number for number, _ in aktis.get(refs, timeout=DEADLINE_S)]
    assert numbers == list(range(CALLS + 200))
    assert aktis.get(victim.pid.remote(), timeout=DEADLINE_S) != first


def test_queued_tasks_whose_workers_are_killed_are_all_run():
    @aktis.remote(max_retries=-1)
    def square(number):
        time.sleep(0.0005)
        return number * number, os.getpid()

    refs = [square.remote(number) for number in range(CALLS)]
    killed = set()
    for number in range(0, CALLS, 100):
        _, pid = aktis.get(refs[number], timeout=DEADLINE_S)
        if pid not in killed:
            killed.add(pid)
            try:
                kill(pid)
            except ProcessLookupError:
                pass  # it had nothing more to do
    assert [value for value, _ in aktis.get(refs, timeout=DEADLINE_S)] == [number**2 for number in range(CALLS)]
    assert len(killed) >= 2


def seen_without_waiting(ref):
    """The error that a callback is told, while no thread waits for anything of the runtime."""
    told, errors = threading.Event(), []

    def note(future):
        errors.append(future.exception())
        told.set()

    ref.future().add_done_callback(note)
    return told, errors


@pytest.mark.parametrize("actor_class", [Victim, AsyncVictim], ids=["plain", "async"])
def test_the_end_of_an_actor_is_told_to_a_caller_that_does_not_wait(actor_class):
    victim = actor_class.remote()
    pid = aktis.get(victim.pid.remote(), timeout=DEADLINE_S)
    ref = victim.sleep.remote()
    told, errors = seen_without_waiting(ref)
    kill(pid)
    assert told.wait(DEADLINE_S)
    assert isinstance(errors[0], exceptions.ActorDiedError)
    assert ref.is_ready()


def test_the_end_of_a_worker_is_told_to_a_caller_that_does_not_wait(tmp_path):
    @aktis.remote(max_retries=0)
    def sleep(folder):
        (folder / str(os.getpid())).touch()
        time.sleep(1000)

    ref = sleep.remote(tmp_path)
    told, errors = seen_without_waiting(ref)
    (pid,) = until(lambda: list(tmp_path.iterdir()), "the task")
    kill(int(pid.name))
    assert told.wait(DEADLINE_S)
    assert isinstance(errors[0], exceptions.WorkerCrashedError)


def test_a_reference_is_found_failed_by_a_caller_that_only_asks():
    victim = Victim.remote()
    pid = aktis.get(victim.pid.remote(), timeout=DEADLINE_S)
    refs = [victim.sleep.remote(), *(victim.call.remote(number) for number in range(100))]
    kill(pid)
    until(lambda: all(ref.is_ready() for ref in refs), "the end of all calls")
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError):
            aktis.get(ref, timeout=DEADLINE_S)
