"""Exceptions on their way to another process.

An exception is pickled whole, and once more by its parts: some cannot be pickled (they hold a lock or a response), some
cannot be rebuilt (their ``__init__`` wants other arguments than ``args``). Its type and text arrive all the same, so that
``except MyError`` matches.

```text
 whole      pickle of the exception                                            b"" if it has none
 parts      pickle of: type, those arguments and attributes that can travel     b"" for types that are always whole
```
"""

from __future__ import annotations

import pickle
import reprlib
from typing import Any

#: Arguments and attributes that are larger than this do not travel twice.
_MAX_PART_BYTES = 64 << 10
#: Attributes kept at most.
_MAX_PARTS = 64
#: The descriptor, which checkers take for what it gives. It passes by what a class may call ``args`` itself.
_ARGUMENTS: Any = BaseException.args
#: Characters of an argument that stands for itself as text: one of a gigabyte may come in an error as well.
_MAX_TEXT = 2000
_TEXT = reprlib.Repr()
_TEXT.maxstring = _TEXT.maxother = _TEXT.maxlong = _MAX_TEXT


def pack(error: BaseException) -> bytes:
    """The exception as :func:`unpack` reads it; nothing if not even its type can travel."""
    whole = _dumps(error)
    is_sure = whole and type(error).__module__ == "builtins"
    parts = b"" if is_sure else _parts_of(error)
    return pickle.dumps((whole, parts)) if whole or parts else b""


def unpack(packed: bytes) -> BaseException | None:
    """The exception; its type with what is left of it; or ``None``."""
    try:
        whole, parts = pickle.loads(packed)
    except Exception:  # noqa: BLE001 - the bytes of another version, or none
        return None
    for data, build in ((whole, _as_exception), (parts, _from_parts)):
        if data:
            try:
                return build(pickle.loads(data))
            except Exception:  # noqa: BLE001, S112 - of whatever type: its class is the user's
                continue
    return None


def text_of(error: BaseException) -> str:
    """The text of an exception, whatever its ``__str__`` does, and fit to be sent."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - of whatever type: it is the user's code
        text = f"<its text could not be made: {type(second).__name__}>"
    return sendable(text)


def sendable(text: str) -> str:
    r"""Text without lone surrogates, which odd names of files contain and UTF-8 cannot express.

    >>> sendable("na\udcffme")
    'na\\udcffme'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _as_exception(loaded: Any) -> BaseException:
    if not isinstance(loaded, BaseException):
        raise TypeError("its __reduce__ makes something else")
    return loaded


def _parts_of(error: BaseException) -> bytes:
    arguments = tuple(argument if _travels(argument) else _TEXT.repr(argument) for argument in _arguments_of(error))
    attributes = dict(list(vars(error).items())[:_MAX_PARTS])
    return _dumps((type(error), arguments, {name: part for name, part in attributes.items() if _travels(part)}))


def _arguments_of(error: BaseException) -> tuple[Any, ...]:
    arguments: tuple[Any, ...] = _ARGUMENTS.__get__(error)
    return arguments if len(arguments) <= _MAX_PARTS else (text_of(error),)


def _travels(part: Any) -> bool:
    data = _dumps(part)
    if not data or len(data) > _MAX_PART_BYTES:
        return False
    try:
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - of whatever type
        return False
    return True


def _from_parts(parts: tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]) -> BaseException:
    kind, arguments, attributes = parts
    try:
        error = kind.__new__(kind, *arguments)
    except Exception:  # noqa: BLE001 - a __new__ of the user's
        error = BaseException.__new__(kind)
    _ARGUMENTS.__set__(error, arguments)
    error.__dict__.update(attributes)
    return error


def _dumps(value: Any) -> bytes:
    from . import by_value

    try:
        return by_value.dumps(value)
    except Exception:  # noqa: BLE001 - of whatever type: what cannot travel is left out
        return b""
