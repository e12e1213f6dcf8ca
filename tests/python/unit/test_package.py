"""The package as a whole: what importing it costs, and what it offers."""

import pathlib
import subprocess
import sys

import aktis
import pytest


def modules_after(statement):
    """The modules of the package that a fresh interpreter has after ``statement``."""
    script = f"{statement}\nimport sys\nprint(*(name for name in sys.modules if name.startswith('aktis')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_else():
    assert modules_after("import aktis") == {"aktis"}


def test_exceptions_and_strategies_need_no_native_module():
    assert "aktis._aktis" not in modules_after("import aktis; aktis.exceptions; aktis.util.scheduling_strategies")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = aktis.no_such_name


def test_the_package_is_typed():
    folder = pathlib.Path(aktis.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_aktis.pyi").exists()


def test_the_version_is_that_of_the_workspace():
    manifest = pathlib.Path(__file__).parents[3] / "Cargo.toml"
    assert f'version = "{aktis.__version__}"' in manifest.read_text()
