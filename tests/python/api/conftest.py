"""A session per file."""

import aktis
import pytest


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
