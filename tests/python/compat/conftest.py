"""One session per test file."""

import pytest

from .system import ray, session_arguments


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
