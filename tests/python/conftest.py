"""A deadline on every test: whatever goes wrong must go wrong in bounded time; and no file leaves a session to the next one."""

import faulthandler
import signal
import sys

import pytest

#: Seconds one test may take before it is interrupted, and then before the whole run is ended with all stacks printed.
TEST_DEADLINE_S = 150
RUN_DEADLINE_S = 180


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


@pytest.fixture(autouse=True, scope="module")
def no_session_left():
    """A session that a file leaves behind would fail files which begin one of their own, and only where both run."""
    was_initialized = _is_initialized()
    yield
    if _is_initialized() and not was_initialized:
        sys.modules["aktis"].shutdown()
        pytest.fail("a test of this file left its session to the next one: call aktis.shutdown() at its end")


def _is_initialized():
    # The tests of `compat` also run where there is Ray and no Aktis.
    aktis = sys.modules.get("aktis")
    return aktis is not None and aktis.is_initialized()
