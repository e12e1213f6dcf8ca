"""The examples in the docstrings of the package run."""

import doctest
import importlib
import pkgutil

import aktis
import pytest

#: Packages with tests of their own; the plugin is mypy's to import.
ELSEWHERE = ("aktis.models", "aktis.data", "aktis.mypy_plugin")


def modules():
    for module in pkgutil.walk_packages(aktis.__path__, "aktis."):
        if not module.name.startswith((*ELSEWHERE, "aktis._aktis", "aktis._process.zygote")):
            yield module.name


@pytest.fixture(scope="module", autouse=True)
def quiet_session():
    """The session that the examples find; those that need none end it."""
    aktis.shutdown()
    aktis.init(num_cpus=4, log_to_driver=False)
    yield
    aktis.shutdown()


@pytest.mark.parametrize("name", ["aktis", *modules()])
def test_the_examples_of_the_module_run(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
