"""``wait``: what is ready, in which order, and by when."""

import time

import pytest

from .system import DEADLINE_S, ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def after(seconds, value=None):
    time.sleep(seconds)
    return value


@ray.remote
def wait_for(path):
    end = time.monotonic() + 2 * DEADLINE_S
    while time.monotonic() < end and not path.exists():
        time.sleep(0.01)


@pytest.fixture
def slow(tmp_path):
    """A task that is under way until the test is over."""
    path = tmp_path / "over"
    yield wait_for.remote(path)
    path.touch()


def test_wait_returns_one_ready_reference_by_default(slow):
    fast = after.remote(0)
    ready, pending = ray.wait([slow, fast], timeout=DEADLINE_S)
    assert ready == [fast] and pending == [slow]


def test_wait_returns_at_most_num_returns_even_if_more_are_ready():
    refs = [ray.put(i) for i in range(5)]
    ready, pending = ray.wait(refs, num_returns=2, timeout=DEADLINE_S)
    assert len(ready) == 2 and len(pending) == 3
    # Which of the ready ones are returned is not defined in Ray; that each list keeps the order of the input is.
    assert ready == [ref for ref in refs if ref in ready]
    assert pending == [ref for ref in refs if ref not in ready]


def test_ready_and_pending_keep_the_order_of_the_input():
    refs = [after.remote(0.2 * (3 - i), i) for i in range(3)]
    ready, pending = ray.wait(refs, num_returns=3, timeout=DEADLINE_S)
    assert ready == refs and pending == []


def test_wait_stops_at_its_timeout_with_what_is_ready(slow):
    fast = after.remote(0)
    ray.get(fast, timeout=DEADLINE_S)
    started = time.monotonic()
    ready, pending = ray.wait([slow, fast], num_returns=2, timeout=0.3)
    assert ready == [fast] and pending == [slow]
    assert time.monotonic() - started >= 0.29


def test_wait_with_nothing_ready_returns_nothing_at_its_timeout(slow):
    assert ray.wait([slow], timeout=0.1) == ([], [slow])


def test_a_timeout_of_zero_looks_once(slow):
    done = ray.put(1)
    assert ray.wait([done, slow], num_returns=2, timeout=0) == ([done], [slow])


def test_wait_returns_as_soon_as_enough_are_ready(slow):
    refs = [after.remote(0), after.remote(0), slow]
    ready, pending = ray.wait(refs, num_returns=2, timeout=DEADLINE_S)
    assert ready == refs[:2] and pending == refs[2:]


def test_a_failed_task_counts_as_ready():
    @ray.remote
    def fail():
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref], timeout=DEADLINE_S) == ([ref], [])


def test_duplicate_references_are_refused():
    ref = ray.put(1)
    with pytest.raises(ValueError, match="unique"):
        ray.wait([ref, ref])


def test_an_empty_list_gives_two_empty_lists():
    assert ray.wait([]) == ([], [])


def test_wrong_arguments_are_refused():
    ref = ray.put(1)
    with pytest.raises(TypeError):
        ray.wait(ref)
    with pytest.raises(TypeError):
        ray.wait([1])
    with pytest.raises(ValueError):
        ray.wait([ref], num_returns=0)
    with pytest.raises(ValueError):
        ray.wait([ref], num_returns=2)
    with pytest.raises(ValueError):
        ray.wait([ref], timeout=-1)


def test_a_list_of_references_is_drained_one_by_one():
    pending = [after.remote(0, i) for i in range(50)]
    values = []
    while pending:
        ready, pending = ray.wait(pending, timeout=DEADLINE_S)
        values += ray.get(ready, timeout=DEADLINE_S)
    assert sorted(values) == list(range(50))


def test_fetch_local_can_be_switched_off():
    ref = after.remote(0, 1)
    assert ray.wait([ref], timeout=DEADLINE_S, fetch_local=False) == ([ref], [])


def test_wait_inside_a_task_sees_references_of_its_caller():
    @ray.remote
    def waits(refs):
        ready, pending = ray.wait(refs, num_returns=len(refs), timeout=DEADLINE_S)
        return len(ready), len(pending)

    assert ray.get(waits.remote([after.remote(0), ray.put(1)]), timeout=DEADLINE_S) == (2, 0)
