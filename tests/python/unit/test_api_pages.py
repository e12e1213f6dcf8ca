"""The API pages that `make docs` makes from the docstrings have everything that is public."""

import inspect
import pathlib
import subprocess
import sys

import aktis
import aktis.data
import aktis.models
import pytest

TEMPLATES = pathlib.Path(__file__).resolve().parents[3] / "docs" / "templates"
MODULES = [aktis, aktis.data, aktis.models]


def public_names(module):
    """Names of a module, and of the methods of a dataset, as `Class.method`."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value) or name == "__version__":
            continue
        yield name
        if value is aktis.data.Dataset:
            yield from (f"{name}.{method}" for method, _ in inspect.getmembers(value, callable) if method[0] != "_")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("api")
    command = [sys.executable, "-m", "pdoc", "--docformat", "google", "--template-directory", TEMPLATES]
    done = subprocess.run(
        [*command, "--output-directory", folder, "aktis"], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # A warning is a name in a docstring, a base or an annotation that leads nowhere.
    assert "Warn" not in done.stderr, done.stderr
    return folder


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_page_has_every_public_name(pages, module):
    text = (pages / f"{module.__name__.replace('.', '/')}.html").read_text()
    names = list(public_names(module))
    assert names
    assert [name for name in names if f'id="{name}"' not in text] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_says_what_it_is(module):
    for name in public_names(module):
        value = module
        for part in name.split("."):
            value = getattr(value, part)
        assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring"
