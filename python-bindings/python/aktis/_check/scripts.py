"""The texts to check: scripts, folders of them, and the cells of notebooks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class Unreadable(Exception):
    """A file that cannot be checked; the text says why."""


class Script(NamedTuple):
    """Python source."""

    #: As it is shown before a line number.
    name: str
    source: str


def scripts_at(path: Path) -> Iterator[Script]:
    """The scripts that a path stands for: a file's own, those below a folder, the cells of a notebook as one script.

    Raises:
        Unreadable: there is no such file, or it holds no text.
    """
    if path.is_dir():
        for folder, names, files in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith(".") and name not in _SKIPPED)
            for file in sorted(files):
                if file.endswith((".py", ".ipynb")):
                    yield from scripts_at(path.__class__(folder) / file)
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix == ".ipynb":
        yield from _cells(path, text)
    else:
        yield Script(str(path), text)


def _cells(path: Path, text: str) -> Iterator[Script]:
    """The code of a notebook. Its cells know of each other, so they are one text; a cell that Python cannot parse is left out."""
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell.get("cell_type") == "code" and cell.get("source")]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path}: not a notebook: {error}") from error
    plain = [
        "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.splitlines())
        for source in sources
    ]
    yield Script(str(path), "\n".join(plain))
