"""What a worker prints: line by line, and marked with the function that prints it.

The raylet follows the files that standard output and error go to, takes the marks out, and heads the lines that drivers
show with them.
"""

from __future__ import annotations

import io
import sys

from . import _aktis


def install() -> None:
    """Puts marked streams in the place of ``sys.stdout`` and ``sys.stderr``."""
    sys.stdout = sys.__stdout__ = _MarkedOutput(sys.stdout)
    sys.stderr = sys.__stderr__ = _MarkedOutput(sys.stderr)


class _MarkedOutput(io.TextIOWrapper):
    def __init__(self, stream: io.TextIOWrapper):
        encoding, errors = stream.encoding, stream.errors
        super().__init__(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)
        self._function: str | None = None
        self._is_line_begun = False

    def write(self, text: str) -> int:
        function = _aktis.current_function()
        if function is not None and function != self._function and not self._is_line_begun:
            self._function = function
            super().write(f"{_aktis.SOURCE_MARK}{function}\n")
        if text:
            self._is_line_begun = not text.endswith("\n")
        return super().write(text)
