"""A session per file, and a deadline on every test: whatever goes wrong must go wrong in bounded time."""

import faulthandler
import signal

import aktis
import pytest

TEST_DEADLINE_S = 60
RUN_DEADLINE_S = 90


@pytest.fixture(scope="module")
def session():
    """A laptop session shared by the tests of one file."""
    aktis.shutdown()
    aktis.init(num_cpus=4, log_to_driver=False)
    yield
    aktis.shutdown()


@pytest.fixture
def no_session():
    """Nothing is initialised before the test, and nothing stays initialised after it."""
    aktis.shutdown()
    yield
    aktis.shutdown()


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
