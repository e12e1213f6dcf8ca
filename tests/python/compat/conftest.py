"""One session per test file, and a deadline on every test."""

import faulthandler
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

# Ray's own settings, harmless to any other system: no token file, no usage report, no uv hook.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

from system import IS_RAY, SESSION_CPUS, ray  # noqa: E402

#: Seconds one test may take before it is interrupted, and then before the whole run is ended with all stacks printed.
TEST_DEADLINE_S = 120
RUN_DEADLINE_S = 150


def session_arguments(**overrides):
    """Arguments of ``init`` for a small quiet session of either system."""
    arguments = {"num_cpus": SESSION_CPUS, "log_to_driver": False}
    if IS_RAY:
        arguments["include_dashboard"] = False
    arguments.update(overrides)
    return arguments


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
