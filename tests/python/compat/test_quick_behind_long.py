"""A short task that is submitted after a long one runs on a free CPU, whatever tasks of its kind have taken until now."""

import os
import time

import pytest

from .system import DEADLINE_S, ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def quick():
    return os.getpid()


@ray.remote
def wait_for(path):
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and not path.exists():
        time.sleep(0.01)
    return path.exists()


@ray.remote
def touch(path):
    path.touch()


@ray.remote
def run_children(path):
    waiting = wait_for.remote(path)
    ray.get(touch.remote(path))
    return ray.get(waiting)


@pytest.fixture(autouse=True)
def short_tasks_before():
    """The runtime has learned that such tasks are short."""
    for _ in range(200):
        ray.get(quick.remote(), timeout=DEADLINE_S)


def test_long_task_sees_what_a_quick_one_behind_it_does(tmp_path):
    waiting = wait_for.remote(tmp_path / "flag")
    touch.remote(tmp_path / "flag")
    assert ray.get(waiting, timeout=2 * DEADLINE_S)


def test_quick_task_that_comes_much_later_runs_beside_the_long_one(tmp_path):
    waiting = wait_for.remote(tmp_path / "flag")
    time.sleep(1)
    touch.remote(tmp_path / "flag")
    assert ray.get(waiting, timeout=2 * DEADLINE_S)


def test_children_of_a_task_run_beside_each_other(tmp_path):
    assert ray.get(run_children.remote(tmp_path / "flag"), timeout=2 * DEADLINE_S)


def test_driver_is_idle_while_a_quick_task_waits_behind_a_long_one(tmp_path):
    waiting, short = wait_for.remote(tmp_path / "flag"), quick.remote()
    ray.get(short, timeout=DEADLINE_S)
    before = time.process_time()
    time.sleep(3)
    assert time.process_time() - before < 1.5, "the task is passed back and forth"
    (tmp_path / "flag").touch()
    assert ray.get(waiting, timeout=DEADLINE_S)
