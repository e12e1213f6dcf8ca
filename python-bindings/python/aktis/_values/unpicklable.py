"""Says which part of a value cannot be pickled, and what to do about it.

>>> import threading
>>> class Model:
...     def __init__(self):
...         self.state = {"guard": threading.Lock()}
>>> error = explain(Model(), TypeError("cannot pickle '_thread.lock' object"))
>>> print(str(error).splitlines()[0])
cannot pickle '_thread.lock' object, found at .state['guard'] (of type _thread.lock)
"""

from __future__ import annotations

import contextlib
from types import CoroutineType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How deep and how widely to look before giving up: the search pickles each part again.
_MAX_DEPTH = 8
_MAX_PARTS = 200


def explain(value: Any, error: Exception) -> Exception:
    """A ``TypeError`` that names the part of ``value`` at fault, for the ``error`` that pickling it gave."""
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return TypeError(
            f"{_first_line(error)}, in a value of type {type(value).__name__} that is nested too deeply, or by references without "
            "end: send it flat, for example as a list of its parts with their positions, or raise sys.setrecursionlimit() "
            "here and in the worker"
        )
    path, culprit = _find(value)
    kind = type(culprit)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    where = f"found at {path.strip()} (of type {name})" if path else f"in a value of type {name}"
    if isinstance(culprit, (GeneratorType, CoroutineType)):
        way_out = (
            "Only data can travel to another process. Send what a generator gives as a list, list(...), or write 'yield' in the "
            "remote function itself"
            if isinstance(culprit, GeneratorType)
            else "Only data can travel to another process. Wait for a coroutine where it is made: await, or asyncio.run(...)"
        )
        return TypeError(f"{_first_line(error)}, {where}\n{way_out}.")
    return TypeError(
        f"{_first_line(error)}, {where}\n"
        "Only data can travel to another process. Make such an object where it is used: inside of the function, or in the "
        "__init__ of the class; or leave it out in the __getstate__ of its class."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _find(value: Any) -> tuple[str, Any]:
    """The innermost part that fails by itself, and the path to it."""
    path = ""
    for _ in range(_MAX_DEPTH):
        for step, part in _parts(value):
            if not _can_pickle(part):
                path, value = path + step, part
                break
        else:
            break
    return path, value


def largest_part(value: Any) -> tuple[str, int]:
    """The path to the smallest part that is most of a value, and the bytes it is pickled to.

    >>> def looking_up(table):
    ...     return lambda key: table[key]
    >>> largest_part(looking_up(bytes(1000)))[0]
    "captured variable 'table'"
    """
    path, size = "", _pickled_bytes(value)
    for _ in range(_MAX_DEPTH):
        sizes = [(_pickled_bytes(part), step, part) for step, part in _parts(value)]
        largest = max(sizes, key=lambda each: each[0], default=None)
        if largest is None or 2 * largest[0] < size:
            break
        size, step, value = largest
        path += step
    return path.strip(), size


def _pickled_bytes(value: Any) -> int:
    import cloudpickle

    try:
        return len(cloudpickle.dumps(value, protocol=5))
    except Exception:  # noqa: BLE001 - of whatever type: then it was not this that was sent
        return 0


def _can_pickle(value: Any) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - of whatever type: it is what is looked for
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    for index, (step, part) in enumerate(_all_parts(value)):
        if index >= _MAX_PARTS:
            return
        yield step, part


def _all_parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{{{part!r}}}", part) for part in value)
    elif isinstance(value, FunctionType):
        yield from _captured(value)
    elif isinstance(value, type):
        yield from ((f".{name}", part) for name, part in vars(value).items() if _is_own(name, part))
    else:
        state = vars(value) if hasattr(value, "__dict__") else {}
        yield from ((f".{name}", part) for name, part in state.items() if not _is_special(name))
        for name in getattr(type(value), "__slots__", ()):
            if isinstance(name, str) and hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _captured(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function brings along: its closure and the globals it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield f" captured variable {name!r}", cell.cell_contents
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f" global variable {name!r}", function.__globals__[name]


def _is_own(name: str, member: Any) -> bool:
    """Whether a member of a class is what its author wrote."""
    return isinstance(member, FunctionType) or not _is_special(name)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
