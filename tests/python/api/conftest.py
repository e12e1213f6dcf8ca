"""A session per file."""

import aktis
import aktis.testing
import pytest


@pytest.fixture(scope="module")
def session():
    """A laptop session shared by the tests of one file."""
    aktis.shutdown()
    aktis.init(num_cpus=4, log_to_driver=False)
    yield
    aktis.shutdown()


@pytest.fixture
def local(no_session):
    """Everything in the process of the test."""
    with aktis.testing.local(num_cpus=2) as context:
        yield context


@pytest.fixture
def no_session():
    """Nothing is initialised before the test, and nothing stays initialised after it."""
    aktis.shutdown()
    yield
    aktis.shutdown()
