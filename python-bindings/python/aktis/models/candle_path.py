"""Where the library of the candle backend is.

It is a part of Aktis that is built on request (``make candle``), since it takes a twelfth of the build and ONNX Runtime is
faster. It lies beside the native module.
"""

from __future__ import annotations

from pathlib import Path

#: The library's name, beside the native module.
LIBRARY = "libaktis_candle.so"


def find_candle() -> Path | None:
    """The path of the library, or ``None`` where it was not built."""
    library = Path(__file__).resolve().parent.parent / LIBRARY
    return library if library.is_file() else None
