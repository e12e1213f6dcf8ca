"""One session per test file, and a deadline on every test."""

import faulthandler
import signal

import pytest

from .system import ray, session_arguments

#: Seconds one test may take before it is interrupted, and then before the whole run is ended with all stacks printed.
TEST_DEADLINE_S = 120
RUN_DEADLINE_S = 150


@pytest.fixture(scope="module")
def session():
    """A laptop session shared by the tests of one file."""
    ray.init(**session_arguments())
    yield
    ray.shutdown()


@pytest.fixture
def no_session():
    """Nothing is initialised before the test, and nothing stays initialised after it."""
    ray.shutdown()
    yield session_arguments
    ray.shutdown()


@pytest.fixture(autouse=True)
def deadline():
    """Interrupts a test that hangs; if even that hangs, prints all stacks and ends the run."""

    def interrupt(_signal, _frame):
        raise TimeoutError(f"test ran longer than {TEST_DEADLINE_S} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(TEST_DEADLINE_S)
    faulthandler.dump_traceback_later(RUN_DEADLINE_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
