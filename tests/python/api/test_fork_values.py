"""Values that lie in the memory of a lane, and forks: a child goes on seeing what its parent dropped, and what a child sends
does not disturb its parent."""

import os
import signal
import time

import aktis
import numpy as np
import pytest
from waiting import DEADLINE_S, is_running

from .forked import WAYS, Child, array_of

pytestmark = pytest.mark.usefixtures("session")

#: More arrays of 80 kB than the memory of one lane holds.
MANY = 100


@aktis.remote
def echo(value):
    return value


def receive(numbers):
    """Arrays that came over a lane, one after the other: each may lie where the one before lay."""
    for number in numbers:
        yield aktis.get(echo.remote(array_of(number)), timeout=DEADLINE_S)


def child_sees_what_its_parent_drops(way, count):
    held = list(receive(range(count)))
    child = Child(way, held, [array_of(number) for number in range(count)])
    held.clear()
    for number, array in zip(range(count, count + MANY), receive(range(count, count + MANY)), strict=True):
        np.testing.assert_array_equal(array, array_of(number))
    return child.still_sees_it()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 20])
def test_a_child_keeps_arrays_that_its_driver_received_and_drops(way, count):
    assert child_sees_what_its_parent_drops(way, count)


@pytest.mark.parametrize("way", WAYS)
def test_a_child_keeps_arrays_that_its_task_received_and_drops(way):
    @aktis.remote
    def parent():
        return child_sees_what_its_parent_drops(way, 3)

    assert aktis.get(parent.remote(), timeout=DEADLINE_S)


@aktis.remote(num_cpus=0)
class Parent:
    """Keeps its arguments, forks, and lets them go."""

    def __init__(self):
        self.kept = []

    def keep(self, array):
        self.kept.append(array)

    def fork_and_drop(self, way):
        self.child = Child(way, self.kept, [array_of(number) for number in range(len(self.kept))])
        self.kept.clear()

    def look(self, array):
        return float(array.sum())

    def child_still_sees_it(self):
        return self.child.still_sees_it()


@pytest.mark.parametrize("way", WAYS)
def test_a_child_keeps_arguments_that_its_actor_drops(way):
    parent = Parent.remote()
    for number in range(5):
        parent.keep.remote(array_of(number))
    aktis.get(parent.fork_and_drop.remote(way), timeout=DEADLINE_S)
    for number in range(5, MANY):
        assert aktis.get(parent.look.remote(array_of(number)), timeout=DEADLINE_S) == array_of(number).sum()
    assert aktis.get(parent.child_still_sees_it.remote(), timeout=DEADLINE_S)


def test_a_child_that_goes_on_yielding_does_not_disturb_its_parents_stream():
    """Parent and child come out of a fork inside of a generator, and both yield."""

    @aktis.remote(max_retries=0)
    def forks(count):
        yield array_of(0)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(told, 1)
            for number in range(1, count):
                yield array_of(1000 + number)
            return
        for number in range(1, count):
            yield array_of(number)
        os.write(tell, b"!")
        deadline = time.monotonic() + DEADLINE_S / 2
        while time.monotonic() < deadline and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.005)
        is_hanging = is_running(child)
        if is_hanging:
            os.kill(child, signal.SIGKILL)
        yield "the child hangs" if is_hanging else "the child has ended"

    for count in (20, 60):
        *arrays, last = aktis.get(list(forks.remote(count)), timeout=DEADLINE_S)
        assert last == "the child has ended"
        assert len(arrays) == count
        for number, array in enumerate(arrays):
            np.testing.assert_array_equal(array, array_of(number))


def test_a_child_that_yields_at_the_same_time_does_not_disturb_its_parents_stream():
    @aktis.remote(max_retries=0)
    def forks(count):
        yield 0
        child = os.fork()
        for number in range(1, count):
            yield array_of(number) if child else array_of(1000 + number)
        if child:
            os.waitpid(child, 0)

    first, *arrays = aktis.get(list(forks.remote(200)), timeout=DEADLINE_S)
    assert first == 0 and len(arrays) == 199
    for number, array in enumerate(arrays, 1):
        np.testing.assert_array_equal(array, array_of(number))
