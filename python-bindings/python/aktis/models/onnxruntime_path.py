"""Where the ONNX Runtime library of this Python environment is.

The library that Aktis loads (``libonnxruntime.so.1.x``) lies inside the ``onnxruntime`` or ``onnxruntime-gpu`` wheel.
It is found through Python's import system, without importing the package::

    python -m aktis.models.onnxruntime_path          # prints the path, or says what to install
    python python-bindings/python/aktis/models/onnxruntime_path.py
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

#: The variable that names the library where no wheel is installed.
LIBRARY_VARIABLE = "ORT_DYLIB_PATH"
#: The library's name on Linux, macOS and Windows; the version stands before or after the last part.
_PATTERNS = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")


def find_onnxruntime() -> Path | None:
    """Where the library is.

    Returns:
        ``ORT_DYLIB_PATH`` if it is set, else the path in the installed wheel, else ``None``.

    >>> import os
    >>> os.environ["ORT_DYLIB_PATH"] = "/opt/libonnxruntime.so"
    >>> find_onnxruntime()
    PosixPath('/opt/libonnxruntime.so')
    >>> del os.environ["ORT_DYLIB_PATH"]
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        return Path(named)
    spec = importlib.util.find_spec("onnxruntime")
    for package in spec.submodule_search_locations or () if spec else ():
        for pattern in _PATTERNS:
            found = sorted((Path(package) / "capi").glob(pattern))
            if found:
                return found[0]
    return None


def main() -> int:
    path = find_onnxruntime()
    if path is None:
        print(f"error: no ONNX Runtime; run `pip install onnxruntime`, or set {LIBRARY_VARIABLE}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
