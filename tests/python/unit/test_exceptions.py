"""Exceptions of other processes: their types, texts and attributes. Needs no native module."""

import pathlib
import pickle
import threading

import cloudpickle
import pytest
from aktis import exceptions
from aktis._process.worker import describe_exception
from aktis._values import carried
from aktis._values.traceback import remote_traceback

APPLICATION, ACTOR_DIED = 2, 4


def arrived(error):
    """What a caller gets when a task raises ``error``."""
    pickled, message, traceback_text, _ = describe_exception(error, "load", None)
    return exceptions._from_failure(APPLICATION, message, pickled, traceback_text)


def raised(error):
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"), KeyError("key"), FileNotFoundError(2, "No such file", "a.txt"), ImportError("m", name="m"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), RuntimeError(), ExceptionGroup("two", [ValueError(), KeyError()]),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_keeps_its_type_and_shows_its_traceback(error):
    caught = arrived(raised(error))
    assert isinstance(caught, type(error)) and isinstance(caught, exceptions.TaskError)
    assert type(caught.cause) is type(error)
    assert str(caught).startswith("aktis::load() (pid=")
    assert type(caught).__name__ == f"RayTaskError({type(error).__name__})"


def test_native_fields_of_an_error_are_kept():
    caught = arrived(FileNotFoundError(2, "No such file", "a.txt"))
    assert (caught.errno, caught.strerror, caught.filename) == (2, "No such file", "a.txt")  # pyright: ignore[reportAttributeAccessIssue]
    assert arrived(ImportError("no", name="module")).name == "module"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()], ids=repr)
def test_an_error_that_would_end_its_caller_silently_is_a_task_error_only(error):
    caught = arrived(error)
    assert type(caught) is exceptions.TaskError
    assert type(caught.cause) is type(error)


def test_an_error_survives_pickle():
    caught = arrived(KeyError("gone"))
    again = pickle.loads(pickle.dumps(caught))
    assert isinstance(again, KeyError) and isinstance(again, exceptions.TaskError)
    assert str(again) == str(caught) and again.cause.args == ("gone",)


def test_an_error_whose_class_cannot_be_subclassed_is_a_task_error():
    class Final(Exception):
        def __init_subclass__(cls):
            raise TypeError("final")

    caught = exceptions.TaskError("text", Final()).as_cause()
    assert type(caught) is exceptions.TaskError and isinstance(caught.cause, Final)


class TwoArgumentsError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class HoldsLockError(Exception):
    def __init__(self, text):
        super().__init__(text, threading.Lock())
        self.status, self.lock = 503, threading.Lock()


class BadReduceError(OSError):
    def __reduce__(self):
        return int, ("no number",)


class BadTextError(Exception):
    def __str__(self):
        raise RuntimeError("no text either")


@pytest.mark.parametrize(
    "error",
    [TwoArgumentsError(5, "reason"), HoldsLockError("busy"), BadReduceError(5, "io"), BadTextError("x")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_cannot_travel_whole_keeps_its_type(error):
    caught = arrived(raised(error))
    assert isinstance(caught, type(error)) and isinstance(caught, exceptions.TaskError)
    assert type(caught.cause) is type(error) and "raise error" in str(caught)


def test_an_error_that_cannot_travel_whole_keeps_what_can():
    caught = arrived(raised(HoldsLockError("busy")))
    assert caught.status == 503 and caught.cause.args[0] == "busy" and not hasattr(caught, "lock")  # pyright: ignore[reportAttributeAccessIssue]
    assert arrived(raised(TwoArgumentsError(5, "reason"))).code == 5  # pyright: ignore[reportAttributeAccessIssue]


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no text")

    def __reduce__(self):
        raise RuntimeError("no pickle")


def test_an_argument_that_cannot_travel_is_short_text_whatever_its_text_does():
    caught = arrived(raised(HoldsLockError(Unspeakable())))
    assert isinstance(caught, HoldsLockError) and "Unspeakable" in caught.cause.args[0]  # pyright: ignore[reportAttributeAccessIssue]
    long = arrived(raised(HoldsLockError("x" * 10_000_000)))
    assert isinstance(long, HoldsLockError) and len(long.cause.args[0]) < 10_000  # pyright: ignore[reportAttributeAccessIssue]


def test_an_error_of_a_type_that_cannot_travel_has_a_cause_that_holds_its_text(monkeypatch):
    monkeypatch.setattr(carried, "_dumps", lambda _value: b"")
    caught = arrived(raised(TwoArgumentsError(5, "reason")))
    assert isinstance(caught.cause, exceptions.UnserializableException) and "5: reason" in str(caught.cause)  # pyright: ignore[reportAttributeAccessIssue]


def test_failure_of_no_exception_is_a_plain_task_error():
    caught = exceptions._from_failure(APPLICATION, "3 rows have failed", b"", "")
    assert type(caught) is exceptions.TaskError and caught.cause is None and str(caught) == "3 rows have failed"


def test_the_name_of_an_odd_file_does_not_cost_the_error_its_type():
    caught = arrived(raised(FileNotFoundError(2, "No such file", "odd\udcff.txt")))
    assert isinstance(caught, FileNotFoundError) and caught.filename == "odd\udcff.txt"
    _, message, text, _ = describe_exception(raised(ValueError("odd\udcff")), "load\udcff", None)
    assert "odd\\udcff" in message.encode().decode() and "odd\\udcff" in text.encode().decode()


def test_notes_of_an_error_are_kept():
    error = ValueError("text")
    error.add_note("while reading row 7")
    caught = arrived(raised(error))
    assert caught.__notes__ == ["while reading row 7"] and "while reading row 7" in str(caught)


def test_the_error_of_a_constructor_says_where_it_was_raised_and_why():
    def load():
        try:
            pathlib.Path("/no/such/model.bin").read_bytes()
        except OSError as error:
            raise RuntimeError("weights are missing") from error

    with pytest.raises(RuntimeError) as caught:
        load()
    pickled, message, text, _ = describe_exception(caught.value, "Model.__init__", None)
    died = exceptions._from_failure(
        ACTOR_DIED, f"the constructor of actor Model ({'ab' * 16}) raised: {message}", pickled, text
    )
    assert type(died) is exceptions.ActorDiedError and not isinstance(died, RuntimeError)
    assert "in load" in str(died) and "model.bin" in str(died) and "test_exceptions.py" in str(died)
    assert isinstance(died.__cause__, RuntimeError) and died.actor_init_failed and died.actor_id == "ab" * 16
    again = pickle.loads(pickle.dumps(died))
    assert isinstance(again.__cause__, RuntimeError) and str(again) == str(died)


def test_an_actor_that_died_later_has_no_cause_of_its_constructor():
    died = exceptions._from_failure(ACTOR_DIED, "actor A is dead: killed", b"", "")
    assert died.__cause__ is None and not died.actor_init_failed and died.actor_id is None  # pyright: ignore[reportAttributeAccessIssue]


def test_an_error_raised_again_by_an_outer_task_keeps_its_first_cause_and_both_names():
    inner = arrived(raised(ValueError("deep")))
    pickled, message, text, _ = describe_exception(raised(inner), "outer", None)
    caught = exceptions._from_failure(APPLICATION, message, pickled, text)
    assert isinstance(caught, ValueError) and type(caught.cause) is ValueError  # pyright: ignore[reportAttributeAccessIssue]
    assert "aktis::outer()" in str(caught) and "aktis::load()" in str(caught)


def test_a_traceback_shows_the_frames_of_the_user_and_of_causes():
    def inner():
        raise KeyError("first")

    def outer():
        try:
            inner()
        except KeyError as error:
            raise RuntimeError("second") from error

    with pytest.raises(RuntimeError) as caught:
        outer()
    text = remote_traceback(caught.value, "work")
    assert "in inner" in text and "in outer" in text and "KeyError: 'first'" in text
    assert text.endswith("RuntimeError: second")


@pytest.mark.parametrize(
    ("retry_on", "error", "expected"),
    [
        (None, ValueError(), False),
        (b"", ValueError(), True),
        (b"", SystemExit(), False),
        (cloudpickle.dumps((LookupError,)), KeyError(), True),
        (cloudpickle.dumps((LookupError,)), ValueError(), False),
    ],
)
def test_only_wanted_errors_are_retried(retry_on, error, expected):
    assert describe_exception(error, "load", retry_on)[3] is expected


def test_every_error_code_has_a_class():
    for code in range(1, 25):
        assert isinstance(exceptions._from_failure(code, "text", b"", ""), exceptions.AktisError)
    assert type(exceptions._from_failure(24, "text", b"", "")) is exceptions.ObjectUnreadableError
    assert isinstance(exceptions._from_failure(999, "newer", b"", ""), exceptions.RuntimeSystemError)


def test_names_of_ray_are_the_same_classes():
    assert exceptions.RayError is exceptions.AktisError
    assert exceptions.RayTaskError is exceptions.TaskError
    assert exceptions.RayActorError is exceptions.ActorError
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorAlreadyExistsError, ValueError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)


def test_a_timeout_says_how_much_is_missing():
    assert "2 of 5 objects" in str(exceptions._timeout(2, 5, 1.5))
    assert "the object is not ready" in str(exceptions._timeout(1, 1, 0))
    assert str(exceptions._timeout(1, 1, 0, "f waits")).endswith("not ready yet; f waits")
