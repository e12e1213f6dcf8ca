"""What a caller sees when a task raises, and how errors travel through references."""

import traceback

import pytest

from . import importable_module
from .system import DEADLINE_S, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
def divide(a, b):
    return a / b


@ray.remote
def fail(message="boom"):
    raise ValueError(message)


@ray.remote
def identity(x):
    return x


def test_an_error_is_both_a_task_error_and_its_original_type():
    with pytest.raises(ZeroDivisionError) as caught:
        get(divide.remote(1, 0))
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert isinstance(caught.value, exceptions.RayError)
    assert isinstance(caught.value, ArithmeticError)


def test_an_error_says_where_it_was_raised_in_the_worker():
    with pytest.raises(ValueError) as caught:
        get(fail.remote("the reason"))
    text = str(caught.value)
    assert "Traceback" not in text or "most recent call last" in text
    assert "fail()" in text, "names the remote function"
    assert "pid=" in text, "names the worker process"
    assert "test_task_errors.py" in text and "line" in text, "names the file and line in the worker"
    assert "raise ValueError(message)" in text, "shows the source line"
    assert text.rstrip().endswith("ValueError: the reason")


def test_an_error_carries_its_cause():
    with pytest.raises(exceptions.RayTaskError) as caught:
        get(fail.remote("the reason"))
    cause = caught.value.cause
    assert type(cause) is ValueError
    assert cause.args == ("the reason",)


def test_the_only_argument_of_an_error_is_its_cause():
    with pytest.raises(ValueError) as caught:
        get(fail.remote("the reason"))
    (cause,) = caught.value.args
    assert cause is caught.value.cause  # pyright: ignore[reportAttributeAccessIssue]


def test_an_error_class_is_named_after_both_of_its_bases():
    with pytest.raises(ValueError) as caught:
        get(fail.remote())
    assert type(caught.value).__name__ == "RayTaskError(ValueError)"


def test_an_importable_error_type_keeps_its_attributes():
    @ray.remote
    def raises():
        raise importable_module.PlainError("detail", 7)

    with pytest.raises(importable_module.PlainError) as caught:
        get(raises.remote())
    assert caught.value.cause.args == ("detail", 7)  # pyright: ignore[reportAttributeAccessIssue]


def test_an_error_type_defined_in_the_script_is_caught_by_its_type():
    class LocalError(Exception):
        pass

    @ray.remote
    def raises():
        raise LocalError("local")

    with pytest.raises(LocalError, match="local") as caught:
        get(raises.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_an_error_with_its_own_attributes_gives_them_to_the_caller():
    class CodedError(Exception):
        def __init__(self, message):
            super().__init__(message)
            self.code = 42

    @ray.remote
    def raises():
        raise CodedError("coded")

    with pytest.raises(CodedError) as caught:
        get(raises.remote())
    assert caught.value.cause.code == 42  # pyright: ignore[reportAttributeAccessIssue]
    assert caught.value.code == 42


def test_an_error_that_cannot_be_rebuilt_is_still_an_error_with_its_text():
    @ray.remote
    def raises():
        raise importable_module.ImportableError(5, "cannot be rebuilt from args")

    with pytest.raises(exceptions.RayError) as caught:
        get(raises.remote())
    assert "cannot be rebuilt from args" in str(caught.value)


def test_an_error_that_cannot_be_pickled_is_still_an_error_with_its_text():
    @ray.remote
    def raises():
        import threading

        error = ValueError("holds a lock")
        error.lock = threading.Lock()  # pyright: ignore[reportAttributeAccessIssue]
        raise error

    with pytest.raises(exceptions.RayError) as caught:
        get(raises.remote())
    assert "holds a lock" in str(caught.value)


def test_a_chained_error_shows_its_cause_in_the_text():
    @ray.remote
    def raises():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("second") from error

    with pytest.raises(RuntimeError) as caught:
        get(raises.remote())
    assert "KeyError: 'first'" in str(caught.value)
    assert "RuntimeError: second" in str(caught.value)


def test_an_error_passes_through_a_task_that_was_given_its_reference():
    # The dependent task does not run: its own result is the error of its argument.
    with pytest.raises(ValueError, match="boom") as caught:
        get(identity.remote(fail.remote()))
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_an_error_passes_through_a_nested_get():
    @ray.remote
    def outer():
        return ray.get(fail.remote("deep"), timeout=DEADLINE_S)

    with pytest.raises(ValueError, match="deep") as caught:
        get(outer.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    text = str(caught.value)
    assert "outer()" in text and "fail()" in text, "names every remote function it passed through"


def test_an_error_of_one_reference_fails_a_get_of_many():
    with pytest.raises(ValueError):
        get([identity.remote(1), fail.remote(), identity.remote(2)])


def test_every_return_of_a_failed_task_is_the_error():
    first, second = fail.options(num_returns=2).remote()
    for ref in (first, second):
        with pytest.raises(ValueError):
            get(ref)


def test_getting_an_error_twice_raises_it_twice():
    ref = fail.remote()
    for _ in range(2):
        with pytest.raises(ValueError):
            get(ref)


def test_a_failed_reference_is_ready():
    ref = fail.remote()
    assert ray.wait([ref], timeout=DEADLINE_S) == ([ref], [])


def test_an_exception_can_be_a_value():
    assert isinstance(get(identity.remote(ValueError("a value"))), ValueError)
    assert isinstance(get(ray.put(ValueError("a value"))), ValueError)


def test_system_exit_in_a_task_is_an_error_of_that_call_only():
    @ray.remote(max_retries=0)
    def leaves():
        raise SystemExit(3)

    with pytest.raises(exceptions.RayError):
        get(leaves.remote())
    assert get(identity.remote(1)) == 1


def test_a_base_exception_of_the_user_is_delivered():
    class Odd(BaseException):
        pass

    @ray.remote
    def raises():
        raise Odd("odd")

    with pytest.raises(exceptions.RayTaskError, match="odd"):
        get(raises.remote())


def test_an_argument_that_cannot_be_pickled_is_refused_by_the_caller():
    import threading

    with pytest.raises(TypeError, match="lock"):
        identity.remote(threading.Lock())
    assert get(identity.remote(1)) == 1


def test_a_function_that_cannot_be_pickled_is_refused_by_the_caller():
    import threading

    lock = threading.Lock()

    @ray.remote
    def holds_lock():
        return lock

    with pytest.raises(TypeError, match="lock"):
        holds_lock.remote()


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_task():
    @ray.remote
    def returns_lock():
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="lock") as caught:
        get(returns_lock.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


def test_a_result_that_cannot_be_unpickled_is_an_error_of_get():
    @ray.remote
    def returns_poison():
        class Poison:
            def __reduce__(self):
                return int, ("not a number",)

        return Poison()

    with pytest.raises((exceptions.RayError, ValueError)):
        get(returns_poison.remote())
    assert get(identity.remote(1)) == 1


def test_an_error_prints_with_its_remote_traceback():
    try:
        get(fail.remote("printed"))
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    assert "raise ValueError(message)" in text


def test_a_generator_result_that_is_not_declared_streaming_counts_as_streaming():
    @ray.remote
    def produces():
        yield 1
        yield 2

    assert [get(ref) for ref in produces.remote()] == [1, 2]


def test_the_error_types_form_one_family():
    error = exceptions.RayError
    for name in (
        "RayTaskError",
        "RayActorError",
        "ActorDiedError",
        "ActorUnavailableError",
        "WorkerCrashedError",
        "GetTimeoutError",
        "ObjectLostError",
        "TaskCancelledError",
        "OutOfMemoryError",
        "ObjectStoreFullError",
        "OwnerDiedError",
        "RuntimeEnvSetupError",
        "PendingCallsLimitExceeded",
        "NodeDiedError",
    ):
        assert issubclass(getattr(exceptions, name), error), name
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorDiedError, exceptions.RayActorError)
    assert issubclass(exceptions.ActorUnavailableError, exceptions.RayActorError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)
