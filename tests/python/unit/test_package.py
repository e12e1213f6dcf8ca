"""The package as a whole: what importing it costs, and what it offers."""

import ast
import pathlib
import subprocess
import sys
from typing import Any

import aktis
import pytest
from aktis._process import command


def modules_after(statement, isolated=()):
    """All modules that a fresh interpreter has after ``statement``."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, *isolated, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def modules_of_the_package(statement):
    return {name for name in modules_after(statement) if name.startswith("aktis")}


def test_importing_the_package_imports_nothing_else():
    assert modules_of_the_package("import aktis") == {"aktis"}


def test_beginning_a_session_imports_nothing_that_it_does_not_need():
    # Without `site`, whose environments import what they like.
    path = f"import sys; sys.path += {[str(pathlib.Path(aktis.__file__).parents[1])]!r}\n"
    modules = modules_after(path + "import aktis; aktis.init(num_cpus=1); aktis.shutdown()", isolated=["-S"])
    dear = {"ast", "asyncio", "dataclasses", "difflib", "inspect", "logging", "numpy", "subprocess", "typing"}
    assert not modules & dear


def test_exceptions_and_strategies_need_no_native_module():
    assert "aktis._aktis" not in modules_of_the_package(
        "import aktis; aktis.exceptions; aktis.util.scheduling_strategies"
    )


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = aktis.no_such_name


def test_the_package_is_typed():
    folder = pathlib.Path(aktis.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_aktis.pyi").exists()


def test_the_version_is_that_of_the_workspace():
    manifest = pathlib.Path(__file__).parents[3] / "Cargo.toml"
    assert f'version = "{aktis.__version__}"' in manifest.read_text()


def test_zygotes_find_the_package_where_this_process_has_it():
    *_, parent, flag, _folders = command.zygote_command()
    assert (flag, pathlib.Path(parent)) == ("--path", pathlib.Path(aktis.__file__).parents[1])


def test_what_is_remote_already_cannot_be_made_remote_again() -> None:
    @aktis.remote
    class Counter:
        pass

    @aktis.remote
    def add():
        pass

    targets: list[Any] = [Counter, add]
    for target in targets:
        with pytest.raises(TypeError, match=r"is remote already: use \.options\(\)"):
            aktis.remote(target)


PACKAGE = pathlib.Path(aktis.__file__).parent
ROOMS = sorted(path.parent for path in PACKAGE.glob("_*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_entering_a_room_loads_nothing(room):
    (docstring,) = ast.parse((room / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)


def test_private_modules_lie_in_rooms_that_are_explained():
    assert {path.stem for path in PACKAGE.glob("_*.py")} == {"__init__", "_cli", "_typed"}
    page = (pathlib.Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    assert [room.name for room in ROOMS if f"| `{room.name}/` |" not in page] == []
