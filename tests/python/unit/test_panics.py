"""A panic of the native module is an ordinary exception."""

import pickle

import pytest
from aktis import exceptions
from aktis._values import panics


@pytest.fixture
def panic_exception():
    """As PyO3 makes it."""
    kind = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    panics.adopt(kind)
    return kind


def test_panic_is_caught_by_except_exception_and_says_what_to_do(panic_exception):
    with pytest.raises(
        exceptions.RuntimeSystemError, match=r"panicked: index out of bounds\. .*please report"
    ) as caught:
        raise panic_exception("index out of bounds")
    assert isinstance(caught.value, Exception) and isinstance(caught.value, panic_exception)


def test_panic_is_of_no_class_that_native_code_panics_at_again(panic_exception):
    """PyO3 looks whether an exception is exactly of its own type."""
    with pytest.raises(panic_exception) as caught:
        raise panic_exception("text")
    assert type(caught.value) is not panic_exception


def test_panic_arrives_in_another_process_as_a_defect(panic_exception):
    arrived = pickle.loads(pickle.dumps(panic_exception("text")))
    assert type(arrived) is exceptions.RuntimeSystemError and "panicked: text" in str(arrived)
