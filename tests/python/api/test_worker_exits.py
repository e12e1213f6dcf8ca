"""Processes that end of their own will (`max_calls`, `exit_actor`): what they answered before arrives all the same.

An answer that is longer than a socket's buffer leaves in pieces, as the caller reads. A caller that does not read at that
moment is stopped here by SIGSTOP, so that it surely does not.
"""

import asyncio
import ctypes
import functools
import os
import signal
import threading
import time

import aktis
import numpy as np
import pytest
from waiting import DEADLINE_S, is_running, until

pytestmark = pytest.mark.usefixtures("session")

ITEM_BYTES = 90_000
ITEMS = 60
#: How long a caller stays stopped if the process that answers waits for it, as it should.
STOPPED_S = 0.5


def item(number):
    return np.full(ITEM_BYTES // 8, float(number))


def note_execution(folder, number):
    """Leaves one line per execution, and says which process it was."""
    with open(os.path.join(folder, f"executions-{number}"), "a") as executions:
        executions.write(f"{os.getpid()}\n")


def executions(folder, number):
    return (folder / f"executions-{number}").read_text().split()


def wait_for_file(path):
    deadline = time.monotonic() + DEADLINE_S
    while not os.path.exists(path):
        assert time.monotonic() < deadline, path
        time.sleep(0.002)


@aktis.remote(max_calls=1, num_returns=3)
def three_items(number, folder, gate=None, seconds=0):
    note_execution(folder, number)
    time.sleep(seconds)
    if gate:
        wait_for_file(gate)
    return item(number), item(number + 1), item(number + 2)


@aktis.remote(max_calls=1)
def many_items(folder, gate=None):
    note_execution(folder, 0)
    if gate:
        wait_for_file(gate)
    for number in range(ITEMS):
        yield item(number)


@aktis.remote
def nap(seconds):
    time.sleep(seconds)


@aktis.remote(num_cpus=0)
class Caller:
    """Calls, and reads later. Not the driver, since the session lives in that one."""

    def pid(self):
        return os.getpid()

    def call_for_three(self, folder, gate):
        self.refs = three_items.remote(0, folder, gate)

    def call_for_many(self, folder, gate):
        self.stream = many_items.remote(folder, gate)

    def three(self):
        return aktis.get(self.refs, timeout=DEADLINE_S)

    def many(self):
        return [float(aktis.get(ref, timeout=DEADLINE_S)[-1]) for ref in self.stream]


def answered_while_stopped(caller, folder, call):
    """Lets a task answer while its caller is stopped."""
    gate = folder / "gate"
    pid = aktis.get(caller.pid.remote(), timeout=DEADLINE_S)
    aktis.get(call.remote(str(folder), str(gate)), timeout=DEADLINE_S)
    begun = folder / "executions-0"
    (worker,) = until(lambda: begun.exists() and begun.read_text().split(), "the task")
    os.kill(pid, signal.SIGSTOP)
    try:
        gate.touch()
        stopped_until = time.monotonic() + STOPPED_S
        while is_running(worker) and time.monotonic() < stopped_until:
            time.sleep(0.005)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_results_of_the_last_call_reach_a_caller_that_was_stopped(tmp_path):
    caller = Caller.remote()
    answered_while_stopped(caller, tmp_path, caller.call_for_three)
    for number, array in enumerate(aktis.get(caller.three.remote(), timeout=DEADLINE_S)):
        np.testing.assert_array_equal(array, item(number))
    assert len(executions(tmp_path, 0)) == 1, "it was run again"


def test_items_of_the_last_call_reach_a_caller_that_was_stopped(tmp_path):
    caller = Caller.remote()
    answered_while_stopped(caller, tmp_path, caller.call_for_many)
    assert aktis.get(caller.many.remote(), timeout=DEADLINE_S) == [float(number) for number in range(ITEMS)]
    assert len(executions(tmp_path, 0)) == 1, "it was run again"


def test_results_of_last_calls_reach_a_driver_that_is_busy_in_python(tmp_path):
    """The driver holds the interpreter lock while the answers come, and its runtime's callbacks wait for that."""
    sleep_with_lock = ctypes.PyDLL(None).usleep
    for number in range(15):
        future = nap.remote(0.02).future()
        refs = three_items.remote(number, str(tmp_path), seconds=0.06)  # pyright: ignore[reportArgumentType, reportCallIssue]
        sleep_with_lock(150_000)
        for offset, array in enumerate(aktis.get(refs, timeout=DEADLINE_S)):
            np.testing.assert_array_equal(array, item(number + offset))
        future.result(timeout=DEADLINE_S)
        assert len(executions(tmp_path, number)) == 1, "it was run again"


def test_items_of_the_last_call_reach_a_driver_that_reads_late(tmp_path):
    stream = many_items.remote(str(tmp_path))
    aktis.get(stream.completed(), timeout=DEADLINE_S)
    refs = list(stream)
    for number, array in enumerate(aktis.get(refs, timeout=DEADLINE_S)):
        np.testing.assert_array_equal(array, item(number))
    assert len(refs) == ITEMS
    assert len(executions(tmp_path, 0)) == 1, "it was run again"


def run_other_threads_last():
    """As on a machine that has much else to do: the other threads of this process run only while this one sleeps."""
    cpu = {min(os.sched_getaffinity(0))}
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(thread, cpu)
        if thread != threading.get_native_id():
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


@aktis.remote(num_cpus=0)
class Leaver:
    def __init__(self):
        self.event = asyncio.Event()
        self.waiting = 0
        run_other_threads_last()

    async def value(self):
        self.waiting += 1
        await self.event.wait()
        return "answered"

    async def leave(self):
        self.waiting += 1
        await self.event.wait()
        aktis.actor.exit_actor()

    async def count(self):
        return self.waiting

    async def open(self):
        # All who wait go on in the next turn, in the order in which they began to wait.
        self.event.set()


@aktis.remote(num_cpus=0)
class Other:
    def make_leave(self, leaver):
        self.leaving = leaver.leave.remote()


def are_waiting(leaver, count):
    return aktis.get(leaver.count.remote(), timeout=DEADLINE_S) == count


def test_an_actor_that_ends_itself_has_answered_others_in_the_same_turn_of_its_loop():
    other = Other.remote()
    for _ in range(5):
        leaver = Leaver.remote()
        answers = [leaver.value.remote() for _ in range(3)]
        until(functools.partial(are_waiting, leaver, 3), "calls that wait")
        aktis.get(other.make_leave.remote(leaver), timeout=DEADLINE_S)
        until(functools.partial(are_waiting, leaver, 4), "the call that leaves")
        opened = leaver.open.remote()
        assert aktis.get(answers, timeout=DEADLINE_S) == ["answered"] * 3
        assert aktis.get(opened, timeout=DEADLINE_S) is None
