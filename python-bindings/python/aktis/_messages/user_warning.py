"""Warnings that point at the line of the user's code."""

from __future__ import annotations

import os
import sys
import warnings

import aktis

_PACKAGE_FOLDER = os.path.dirname(os.path.abspath(aktis.__file__)) + os.sep


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """A warning at the innermost line that is not of this package. Python shows each once per line."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE_FOLDER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
