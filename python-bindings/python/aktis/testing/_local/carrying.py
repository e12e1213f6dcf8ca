"""Values on their way from call to call, as they would travel between processes: copied, arrays read-only.

What would go as code, and what stands for something of the session, stays what it is:

```text
 data                                                     a copy, by pickle
 functions and classes that workers could not import      the same, once it is known that they could be sent
 references, handles of actors                            the same
 mocks (unittest.mock)                                    the same: what is called in the test is seen by the test
```

>>> copied = carry({"numbers": [1, 2]})
>>> copied.value() == copied.value(), copied.value() is copied.value()
(True, False)
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from types import FunctionType
from typing import Any

from aktis._values import by_value
from aktis._values.definition import _LARGE_BYTES, _complain_of_size
from aktis._values.serialization import _is_importable, _refusal

_loading = threading.local()


class Carried:
    """A value that has been taken in, to be handed out as often as it is asked for."""

    __slots__ = ("_buffers", "_inband", "_kept")

    def __init__(self, inband: bytes, buffers: list[memoryview], kept: list[Any]):
        self._inband = inband
        self._buffers = buffers
        self._kept = kept

    def value(self) -> Any:
        """The value, anew; arrays lie in memory that all who ask share, and are read-only."""
        before = getattr(_loading, "kept", None)
        _loading.kept = self._kept
        try:
            return pickle.loads(self._inband, buffers=self._buffers)
        finally:
            _loading.kept = before


def carry(value: Any) -> Carried:
    """Takes a value in.

    Raises:
        TypeError: something in it could not be sent to another process; the message says what and where.
    """
    stream, buffers, kept = io.BytesIO(), list[pickle.PickleBuffer](), list[Any]()
    try:
        _picklers()[0](stream, buffers, kept).dump(value)
    except Exception as error:
        raise _refusal(value, error) from error
    return Carried(stream.getvalue(), [_own_copy(buffer) for buffer in buffers], kept)


def check_sendable(definition: Any) -> None:
    """Raises as sending it to workers would, for a function or class that is not sent. Mocks in it are let pass."""
    stream = io.BytesIO()
    try:
        _picklers()[1](stream).dump(definition)
    except Exception as error:
        raise _refusal(definition, error) from error
    if stream.tell() > _LARGE_BYTES:
        _complain_of_size(definition, stream.tell())


def _own_copy(buffer: pickle.PickleBuffer) -> memoryview:
    return memoryview(bytes(buffer.raw())).toreadonly()


def _kept(position: int) -> Any:
    return _loading.kept[position]


def _is_mock(value: Any) -> bool:
    modules = (sys.modules.get(name) for name in ("unittest.mock", "mock"))
    return any(isinstance(value, module.NonCallableMock) for module in modules if module is not None)


def _is_of_session(value: Any) -> bool:
    from .references import LocalRef
    from .streams import LocalGenerator

    if type(value) in (LocalRef, LocalGenerator):
        return True
    actor = sys.modules.get("aktis.actor")
    return actor is not None and type(value) in (actor.ActorHandle, actor.ActorMethod)


def _is_code(value: Any) -> bool:
    return isinstance(value, (type, FunctionType)) and not _is_importable(value)


def _is_remote(value: Any) -> bool:
    kinds = (("aktis.remote_function", "RemoteFunction"), ("aktis.actor", "ActorClass"))
    modules = ((sys.modules.get(module), name) for module, name in kinds)
    return type(value) in [getattr(module, name) for module, name in modules if module is not None]


def _picklers() -> tuple[Any, Any]:
    """The one that keeps what is not copied, and the one that only looks. Made at first use, because cloudpickle takes long to import."""
    global _made
    if _made is None:
        base: Any = by_value.pickler()

        class KeepingPickler(base):  # type: ignore[misc]
            def __init__(self, stream: io.BytesIO, buffers: list[pickle.PickleBuffer], kept: list[Any]):
                super().__init__(stream, protocol=5, buffer_callback=buffers.append)
                self._kept = kept

            def reducer_override(self, obj: Any) -> Any:
                is_code = _is_code(obj)
                if is_code:
                    check_sendable(obj)
                if is_code or _is_of_session(obj) or _is_mock(obj) or _is_remote(obj):
                    self._kept.append(obj)
                    return _kept, (len(self._kept) - 1,)
                return super().reducer_override(obj)

        class LookingPickler(base):  # type: ignore[misc]
            def __init__(self, stream: io.BytesIO):
                super().__init__(stream, protocol=5)

            def reducer_override(self, obj: Any) -> Any:
                # Remote functions are looked at when they are called.
                if _is_of_session(obj) or _is_mock(obj) or _is_remote(obj):
                    return int, ()
                return super().reducer_override(obj)

        _made = KeepingPickler, LookingPickler
    return _made


_made: tuple[Any, Any] | None = None
