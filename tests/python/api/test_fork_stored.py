"""Stored values and forks: a child goes on seeing what its parent dropped, and the store is emptied when the child has ended."""

import os
import select
import signal
import subprocess
import sys

import aktis
import numpy as np
import pytest
from waiting import DEADLINE_S, until

from .forked import MB, WAYS, Child, array_of, stored_of


@pytest.fixture
def small_store(no_session):
    """A store of 40 MB: what is put after some forty arrays of 1 MB lies where others lay."""
    aktis.init(num_cpus=2, object_store_memory=40 * MB, log_to_driver=False)


@pytest.mark.parametrize("way", WAYS)
def test_a_child_keeps_a_stored_array_that_its_driver_drops(small_store, way):
    ref = aktis.put(stored_of(0))
    held = [aktis.get(ref)]
    child = Child(way, held, [stored_of(0)])
    held.clear()
    del ref
    recent = []
    for number in range(1, 120):
        recent = [*recent[-10:], aktis.put(stored_of(number))]
    np.testing.assert_array_equal(aktis.get(recent[-1]), stored_of(119))
    assert child.still_sees_it()


def test_a_child_keeps_a_stored_array_that_its_task_drops(small_store):
    @aktis.remote
    def parent():
        ref = aktis.put(stored_of(0))
        held = [aktis.get(ref)]
        child = Child("os.fork", held, [stored_of(0)])
        held.clear()
        del ref
        recent = []
        for number in range(1, 120):
            recent = [*recent[-10:], aktis.put(stored_of(number))]
        return child.still_sees_it()

    assert aktis.get(parent.remote(), timeout=DEADLINE_S)


def test_the_child_of_a_child_keeps_a_stored_array_when_both_others_have_let_go(small_store):
    ref = aktis.put(stored_of(0))
    held = [aktis.get(ref)]
    told, tell = os.pipe()
    answer, answered = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.read(told, 1)
            os.write(answered, b"y" if np.array_equal(held[0], stored_of(0)) else b"n")
        os._exit(0)
    os.waitpid(middle, 0)
    held.clear()
    del ref
    recent = []
    for number in range(1, 120):
        recent = [*recent[-10:], aktis.put(stored_of(number))]
    os.write(tell, b"?")
    assert select.select([answer], [], [], DEADLINE_S)[0], "the child of the child hangs"
    assert os.read(answer, 1) == b"y"


@pytest.mark.parametrize("way", ["asked", "killed"])
def test_memory_that_children_held_is_used_again_when_they_have_ended(small_store, way):
    """Ten times 10 MB: what is not given back fills the store of 40 MB before long."""
    size = 10 * MB // 8
    for number in range(10):
        ref = aktis.put(array_of(number, size))
        held = [aktis.get(ref)]
        child = Child("os.fork", held, [array_of(number, size)])
        held.clear()
        del ref
        if way == "asked":
            assert child.still_sees_it()
        else:
            os.kill(child.pid, signal.SIGKILL)  # pyright: ignore[reportArgumentType]
            os.waitpid(child.pid, 0)  # pyright: ignore[reportArgumentType]
    for number in range(100):
        np.testing.assert_array_equal(aktis.get(aktis.put(stored_of(number))), stored_of(number))
    until(lambda: store_used_bytes() < 5 * MB, "an empty store")


def test_a_child_that_lives_on_holds_nothing_that_its_parent_got_later(small_store):
    held = [aktis.get(aktis.put(stored_of(number))) for number in range(5)]
    child = Child("os.fork", held, [stored_of(number) for number in range(5)])
    for number in range(200):
        np.testing.assert_array_equal(aktis.get(aktis.put(stored_of(number))), stored_of(number))
    until(lambda: store_used_bytes() < 10 * MB, "a store with five arrays")
    assert child.still_sees_it()


@pytest.mark.parametrize("close_fds", [True, False])
def test_a_program_that_is_started_holds_nothing(small_store, close_fds):
    size = 10 * MB // 8
    programs = []
    try:
        for number in range(8):
            array = aktis.get(aktis.put(array_of(number, size)))
            programs.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, close_fds=close_fds))
            assert array[0] == number * size
        until(lambda: store_used_bytes() >= 10 * MB, "a store with an array")
        del array
        until(lambda: store_used_bytes() < 5 * MB, "an empty store")
        assert all(program.poll() is None for program in programs)
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def store_used_bytes():
    (node,) = aktis.nodes()
    return node["ObjectStoreUsedBytes"]
