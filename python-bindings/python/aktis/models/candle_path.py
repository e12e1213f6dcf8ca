"""Where the library of the candle backend is.

It is a part of Aktis that is built on request (``make candle``), since it takes a twentieth of the build and ONNX Runtime is
faster. It lies in a folder of its own, since Python takes every library beside modules for one.
"""

from __future__ import annotations

from pathlib import Path

#: The library, below the package.
LIBRARY = Path("native", "libaktis_candle.so")


def find_candle() -> Path | None:
    """The path of the library, or ``None`` where it was not built."""
    library = Path(__file__).resolve().parent.parent / LIBRARY
    return library if library.is_file() else None
