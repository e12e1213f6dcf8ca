"""Retries after a crash of the worker process, and after errors of the application."""

import os
import signal

import pytest

from .system import DEADLINE_S, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


def attempts(folder):
    """How many times a task of this test has started, counted by the files each start leaves."""
    return len(os.listdir(folder))


def note_attempt(folder):
    os.close(os.open(os.path.join(folder, f"{len(os.listdir(folder)):03}-{os.getpid()}"), os.O_CREAT))
    return len(os.listdir(folder))


def crashing_until(success_attempt, **options):
    """A remote function that ends its process by ``os._exit`` on each attempt before the given one."""

    @ray.remote(**options)
    def crash(folder):
        number = note_attempt(folder)
        if number < success_attempt:
            os._exit(1)
        return number

    return crash


def raising_until(success_attempt, error, **options):
    @ray.remote(**options)
    def raises(folder):
        number = note_attempt(folder)
        if number < success_attempt:
            raise error(f"attempt {number}")
        return number

    return raises


def test_a_crashed_task_is_retried_three_times_by_default(tmp_path):
    assert get(crashing_until(4, num_cpus=1).remote(str(tmp_path))) == 4


def test_a_task_that_always_crashes_fails_after_its_retries(tmp_path):
    ref = crashing_until(99, max_retries=1).remote(str(tmp_path))
    with pytest.raises(exceptions.WorkerCrashedError):
        get(ref)
    assert attempts(tmp_path) == 2


def test_no_retries_means_one_attempt(tmp_path):
    with pytest.raises(exceptions.WorkerCrashedError):
        get(crashing_until(99, max_retries=0).remote(str(tmp_path)))
    assert attempts(tmp_path) == 1


def test_minus_one_retries_for_ever(tmp_path):
    assert get(crashing_until(6, max_retries=-1).remote(str(tmp_path))) == 6


def test_retries_can_be_set_per_call(tmp_path):
    task = crashing_until(3, max_retries=0)
    assert get(task.options(max_retries=2).remote(str(tmp_path))) == 3


def test_a_task_killed_by_a_signal_is_retried(tmp_path):
    @ray.remote(max_retries=1)
    def killed(folder):
        if note_attempt(folder) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    assert get(killed.remote(str(tmp_path))) == "survived"


def test_a_crash_is_not_a_task_error():
    @ray.remote(max_retries=0)
    def crash():
        os._exit(1)

    with pytest.raises(exceptions.RayError) as caught:
        get(crash.remote())
    assert type(caught.value) is exceptions.WorkerCrashedError
    assert not isinstance(caught.value, exceptions.RayTaskError)


def test_a_crash_fails_no_other_task():
    @ray.remote(max_retries=0)
    def crash():
        os._exit(1)

    @ray.remote
    def square(x):
        return x * x

    crashes = [crash.remote() for _ in range(3)]
    assert get([square.remote(i) for i in range(50)]) == [i * i for i in range(50)]
    for ref in crashes:
        with pytest.raises(exceptions.WorkerCrashedError):
            get(ref)


def test_errors_of_the_application_are_not_retried_by_default(tmp_path):
    with pytest.raises(ValueError, match="attempt 1"):
        get(raising_until(99, ValueError, max_retries=3).remote(str(tmp_path)))
    assert attempts(tmp_path) == 1


def test_errors_of_the_application_are_retried_when_asked(tmp_path):
    task = raising_until(3, ValueError, max_retries=3, retry_exceptions=True)
    assert get(task.remote(str(tmp_path))) == 3


def test_the_last_error_is_raised_when_retries_run_out(tmp_path):
    task = raising_until(99, ValueError, max_retries=2, retry_exceptions=True)
    with pytest.raises(ValueError, match="attempt 3"):
        get(task.remote(str(tmp_path)))
    assert attempts(tmp_path) == 3


def test_only_the_listed_error_types_are_retried(tmp_path):
    listed, other = tmp_path / "listed", tmp_path / "other"
    listed.mkdir(), other.mkdir()  # pyright: ignore[reportUnusedExpression]
    task = raising_until(3, KeyError, max_retries=3, retry_exceptions=[LookupError])
    assert get(task.remote(str(listed))) == 3, "a subclass of a listed type counts"
    task = raising_until(3, ValueError, max_retries=3, retry_exceptions=[LookupError])
    with pytest.raises(ValueError, match="attempt 1"):
        get(task.remote(str(other)))


def test_a_bad_retry_list_is_refused():
    with pytest.raises((TypeError, ValueError, AssertionError)):
        ray.remote(retry_exceptions="everything")(lambda: None).remote()


def test_a_retried_task_gets_its_arguments_again(tmp_path):
    @ray.remote
    def flaky(folder, data, inline):
        if note_attempt(folder) == 1:
            os._exit(1)
        return len(data), inline

    assert get(flaky.remote(str(tmp_path), ray.put(bytes(500_000)), [1, 2])) == (500_000, [1, 2])


def test_max_calls_ends_the_worker_after_that_many_calls():
    @ray.remote(max_calls=1)
    def pid():
        return os.getpid()

    assert len({get(pid.remote()) for _ in range(3)}) == 3
