"""Calls of one caller to an actor start in the order in which they were made, whatever their arguments are: short ones, ones in
shared memory, ones in the object store, and ones that are not there yet."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import aktis
import numpy as np
import pytest
from waiting import DEADLINE_S

pytestmark = pytest.mark.usefixtures("session")

CALLS = 80
CALLERS = 3


class Recorder:
    """Notes who called with what."""

    def __init__(self):
        self.seen = []

    def note(self, caller, number, value):
        self._note(caller, number, value)
        return number

    def notes(self):
        return self.seen

    def _note(self, caller, number, value):
        assert first_of(value) == number
        self.seen.append((caller, number))


class AsyncRecorder(Recorder):
    """The same on an event loop. What counts is the order in which calls start."""

    async def note(self, caller, number, value):
        self._note(caller, number, value)
        await asyncio.sleep(0.001 * (number % 3))
        return number


RECORDERS = pytest.mark.parametrize(
    "recorder_class", [Recorder, AsyncRecorder], ids=lambda recorder_class: recorder_class.__name__
)


def first_of(value):
    return value if isinstance(value, int) else int(value[0])


@aktis.remote
def late(value, seconds):
    time.sleep(seconds)
    return value


def argument(number):
    """Values of all kinds, all of which say their number."""
    match number % 8:
        case 0:
            return np.full(10_000, float(number))  # 80 kB, in shared memory
        case 1:
            return np.full(125_000, float(number))  # 1 MB, to be stored
        case 2:
            return late.remote(number, 0.005)  # not there yet
        case 3:
            return aktis.put(np.full(125_000, float(number)))  # stored
        case 4:
            return late.remote(np.full(10_000, float(number)), 0.002)
        case 5:
            return late.remote(np.full(125_000, float(number)), 0)
        case _:
            return number


def call_all(recorder, caller, pause_s=0):
    refs = []
    for number in range(CALLS):
        refs.append(recorder.note.remote(caller, number, argument(number)))
        time.sleep(pause_s)
    return refs


@aktis.remote
def calls_from_a_task(recorder, caller):
    return aktis.get(call_all(recorder, caller), timeout=DEADLINE_S)


def orders(recorder):
    """For each caller the numbers of its calls as they started."""
    by_caller = {}
    for caller, number in aktis.get(recorder.notes.remote(), timeout=DEADLINE_S):
        by_caller.setdefault(caller, []).append(number)
    return by_caller


def started_in_order(callers):
    return {caller: list(range(CALLS)) for caller in callers}


def make(recorder_class):
    return aktis.remote(num_cpus=0)(recorder_class).remote()


@RECORDERS
def test_calls_of_one_thread_start_in_order(recorder_class):
    recorder = make(recorder_class)
    assert aktis.get(call_all(recorder, "main"), timeout=DEADLINE_S) == list(range(CALLS))
    assert orders(recorder) == started_in_order(["main"])


@RECORDERS
def test_calls_of_each_of_several_threads_start_in_order(recorder_class):
    recorder = make(recorder_class)
    callers = range(CALLERS)
    with ThreadPoolExecutor(CALLERS) as threads:
        calls = list(threads.map(lambda caller: call_all(recorder, caller, 0.0005 * caller), callers))
    for refs in calls:
        assert aktis.get(refs, timeout=DEADLINE_S) == list(range(CALLS))
    assert orders(recorder) == started_in_order(callers)


@RECORDERS
def test_calls_of_a_loop_start_in_order(recorder_class):
    recorder = make(recorder_class)

    async def call():
        waiting = []
        for number in range(CALLS):
            waiting.append(asyncio.ensure_future(value_of(recorder.note.remote("loop", number, argument(number)))))
            await asyncio.sleep(0)
        return await asyncio.gather(*waiting)

    async def value_of(ref):
        return await ref

    assert asyncio.run(asyncio.wait_for(call(), DEADLINE_S)) == list(range(CALLS))
    assert orders(recorder) == started_in_order(["loop"])


@RECORDERS
def test_calls_of_threads_tasks_and_a_loop_start_in_the_order_of_each(recorder_class):
    recorder = make(recorder_class)
    tasks = [calls_from_a_task.remote(recorder, f"task {number}") for number in range(2)]

    async def call():
        refs = []
        for number in range(CALLS):
            refs.append(recorder.note.remote("loop", number, argument(number)))
            await asyncio.sleep(0)
        return await asyncio.gather(*refs)

    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(call_all, recorder, f"thread {number}") for number in range(2)]
        assert asyncio.run(asyncio.wait_for(call(), DEADLINE_S)) == list(range(CALLS))
    for refs in [call.result() for call in calls]:
        assert aktis.get(refs, timeout=DEADLINE_S) == list(range(CALLS))
    assert aktis.get(tasks, timeout=DEADLINE_S) == [list(range(CALLS))] * 2
    assert orders(recorder) == started_in_order(["thread 0", "thread 1", "task 0", "task 1", "loop"])
