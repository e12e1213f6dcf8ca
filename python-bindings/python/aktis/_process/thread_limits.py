"""How many threads numerical libraries start in a worker: as many as its task or actor has CPUs, as in Ray.

Otherwise each of n workers would compute with n threads, and all of them fight for the CPUs. The libraries read
``OMP_NUM_THREADS`` when they are loaded; those that the zygote has loaded already are told by their functions. Whoever sets
the variable himself, for the session or inside a task, is left alone.
"""

from __future__ import annotations

import contextlib
import os
import sys

_VARIABLE = "OMP_NUM_THREADS"
#: What was set here last; ``None``: the variable is the user's.
_ours: str | None = None


def begin() -> None:
    """Limits this process to one thread, unless its user has chosen. In the zygote, before it loads any library."""
    global _ours
    if _VARIABLE not in os.environ:
        _ours = os.environ[_VARIABLE] = "1"


def set_threads(count: int) -> None:
    """The task or actor that runs next has so many CPUs. Called by the native module when that changes."""
    global _ours
    if _ours is None or os.environ.get(_VARIABLE) != _ours:
        return
    _ours = os.environ[_VARIABLE] = str(count)
    with contextlib.suppress(Exception):  # what cannot be told computes with the threads it has
        _tell_loaded_libraries(count)


def _tell_loaded_libraries(count: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    for path in _loaded_openblas():
        import ctypes

        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(count))
                break


def _loaded_openblas() -> set[str]:
    if "numpy" not in sys.modules:
        return set()
    with open("/proc/self/maps") as maps:
        return {line.split(maxsplit=5)[5].strip() for line in maps if "openblas" in line.rpartition("/")[2]}
