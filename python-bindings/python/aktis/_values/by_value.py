"""Functions and classes by value: cloudpickle, but code keeps the name of its file.

From version 3.1.3 on cloudpickle calls the file of all code ``<dynamic-code>``, so that equal functions give equal bytes. Then
no traceback from a worker would name a file, or show a line of it.

>>> import pickle
>>> def square(x):
...     return x * x
>>> copy = pickle.loads(dumps(square))
>>> copy is square, copy(3), copy.__code__.co_filename == square.__code__.co_filename
(False, 9, True)
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

_NO_FILE = "<dynamic-code>"
_pickler: Any = None


def pickler() -> Any:
    """The class of picklers. Made at first use, because cloudpickle takes long to import."""
    global _pickler
    if _pickler is None:
        import types
        from collections import ChainMap

        import cloudpickle

        reducers: Any = cloudpickle.Pickler.dispatch_table
        reduce_code = reducers[types.CodeType]

        def reduce_code_with_file(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
            make, arguments, *_ = reduce_code(code)
            return make, tuple(
                code.co_filename if isinstance(argument, str) and argument == _NO_FILE else argument
                for argument in arguments
            )

        table = ChainMap({types.CodeType: reduce_code_with_file}, reducers)

        class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
            dispatch_table = table

        _pickler = ByValuePickler
    return _pickler


def dumps(obj: Any) -> bytes:
    """Pickles ``obj`` with all code that a worker cannot import."""
    stream = io.BytesIO()
    pickler()(stream, protocol=5).dump(obj)
    return stream.getvalue()
