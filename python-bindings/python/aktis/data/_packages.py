"""Packages that some formats need, and nothing else."""

from __future__ import annotations

import importlib
from typing import Any


def needs(function: str, module: str, package: str) -> Any:
    """The module; an error with the command that installs its package, where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # Brackets mean something to shells.
        quoted = f"'{package}'" if "[" in package else package
        raise ImportError(f"{function}() needs {package}: pip install {quoted}") from error
