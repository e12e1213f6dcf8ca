"""How worker processes are started: the command line of the zygote, and its environment."""

from __future__ import annotations

import contextlib
import os
import sys

import aktis

# As type checkers know it: `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Starts the zygote where this package is found, even if only this process's ``sys.path`` says where.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from aktis._process.zygote import main; main()"


def zygote_command(import_folders: list[str] | None = None) -> list[str]:
    """The command that starts a zygote whose workers import from the same places as this process.

    Args:
        import_folders: more folders, searched first.
    """
    folders = [*(import_folders or ()), *filter(None, map(_absolute, sys.path))]
    package_parent = os.path.dirname(os.path.dirname(os.path.abspath(aktis.__file__)))
    # -P: the folder this process happens to be in must not shadow the standard library while the zygote starts.
    return [sys.executable, "-P", "-c", _BOOT, package_parent, "--path", os.pathsep.join(folders)]


def _absolute(path: str) -> str | None:
    """The path from the root; nothing for a path below a current folder that has been deleted, where nothing can be found.

    >>> _absolute("/usr/../lib")
    '/lib'
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def worker_environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
