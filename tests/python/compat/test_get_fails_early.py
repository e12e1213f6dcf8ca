"""``get`` of a list: an error is raised when it happens, not when everything before it in the list is done."""

import time

import pytest

from .system import DEADLINE_S, ray

pytestmark = pytest.mark.usefixtures("session")

#: Longer than any test waits for what is to come earlier.
LONG_S = 300


@ray.remote
def wait_for(path):
    end = time.monotonic() + LONG_S
    while time.monotonic() < end and not path.exists():
        time.sleep(0.01)
    return "done"


@ray.remote
def fail(after_s):
    time.sleep(after_s)
    raise KeyError("on purpose")


@ray.remote
class Failing:
    def fail(self):
        raise KeyError("on purpose")


@pytest.fixture
def waiting(tmp_path):
    """A task that is under way until the test is over."""
    path = tmp_path / "over"
    yield wait_for.remote(path)
    path.touch()


def test_error_behind_a_task_that_runs_is_raised_when_it_happens(waiting):
    with pytest.raises(KeyError):
        ray.get([waiting, fail.remote(0.5)], timeout=DEADLINE_S)


def test_error_that_has_happened_before_is_raised_at_once(waiting):
    failed = fail.remote(0)
    ray.wait([failed], timeout=DEADLINE_S)
    with pytest.raises(KeyError):
        ray.get([waiting, ray.put(1), failed], timeout=DEADLINE_S)


def test_error_of_an_actor_is_raised_when_it_happens(waiting):
    actor = Failing.remote()
    with pytest.raises(KeyError):
        ray.get([waiting, actor.fail.remote()], timeout=DEADLINE_S)


def test_error_of_a_task_that_another_process_submitted_is_raised_when_it_happens(waiting):
    @ray.remote
    def submit():
        return [fail.remote(0.5)]

    [failed] = ray.get(submit.remote(), timeout=DEADLINE_S)
    with pytest.raises(KeyError):
        ray.get([waiting, failed], timeout=DEADLINE_S)


def test_errors_of_other_tasks_disturb_nobody(tmp_path):
    path = tmp_path / "over"
    others = [fail.remote(0.05 * number) for number in range(8)]
    refs = [wait_for.remote(path), ray.put("here")]
    ray.wait(others, num_returns=len(others), timeout=DEADLINE_S)
    path.touch()
    assert ray.get(refs, timeout=DEADLINE_S) == ["done", "here"]
