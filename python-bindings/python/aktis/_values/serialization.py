"""Values to bytes and back: pickle protocol 5 with large buffers kept apart.

Most values need nothing but the standard C pickler. What it would get wrong is left to cloudpickle: functions and classes
of the script itself (``__main__``), which a worker cannot import, and everything the standard pickler refuses.

>>> inband, buffers = dumps({"answer": 42})
>>> loads(inband, buffers)
{'answer': 42}
>>> inband, buffers = dumps(lambda x: x + 1)
>>> loads(inband, buffers)(1)
2
"""

from __future__ import annotations

import io
import pickle
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    import pyarrow


class _NeedsCloudpickle(Exception):
    """The standard pickler would write a reference that workers cannot follow."""


class _StandardPickler(pickle.Pickler):
    """The C pickler, stopped where it would refer to something by a name that workers do not know."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)) and not _is_importable(obj):
            raise _NeedsCloudpickle
        return NotImplemented


def _is_importable(obj: Any) -> bool:
    return obj.__module__ != "__main__" and "<locals>" not in obj.__qualname__ and "<lambda>" not in obj.__qualname__


def dumps(obj: Any) -> tuple[bytes, list[Any]]:
    """Pickles ``obj``: the bytes, and the memory of its large contents in the order they are needed.

    Raises:
        TypeError: something in ``obj`` cannot be pickled; the message says what and where.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    if not _has_by_value_modules():
        try:
            _StandardPickler(stream, 5, buffer_callback=buffers.append).dump(obj)
            return stream.getvalue(), [buffer.raw() for buffer in buffers]
        except Exception:  # noqa: BLE001, S110 - whatever stopped it, cloudpickle decides
            pass
    from . import by_value

    buffers.clear()
    stream = io.BytesIO()
    try:
        by_value.pickler()(stream, 5, buffer_callback=buffers.append).dump(obj)
    except Exception as error:
        raise _refusal(obj, error) from error
    return stream.getvalue(), [buffer.raw() for buffer in buffers]


def _has_by_value_modules() -> bool:
    """Whether the user asked cloudpickle to send whole modules by value."""
    module = sys.modules.get("cloudpickle")
    return module is not None and bool(module.list_registry_pickle_by_value())


def _refusal(obj: Any, error: Exception) -> Exception:
    from .unpicklable import explain

    return explain(obj, error)


def loads(inband: Any, buffers: Sequence[Any]) -> Any:
    """Rebuilds what :func:`dumps` took apart. Arrays use the memory of ``buffers`` in place."""
    return pickle.loads(inband, buffers=buffers)


def restore_ndarray(buffer: Any, dtype: str, shape: tuple[int, ...]) -> numpy.ndarray[Any, Any]:
    """A read-only array over ``buffer``, which it keeps alive.

    >>> restore_ndarray(b"\\x01\\x00\\x02\\x00", "h", (2,))
    array([1, 2], dtype=int16)
    """
    import numpy

    array: numpy.ndarray[Any, Any] = numpy.ndarray(shape, dtype, buffer=buffer)
    array.flags.writeable = False
    return array


def restore_arrow(buffer: Any) -> pyarrow.Table:
    """The table of an Arrow IPC stream, over the stream's memory, which it keeps alive."""
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.py_buffer(buffer)).read_all()


def arrow_stream(block: pyarrow.Table | pyarrow.RecordBatch) -> pyarrow.Buffer:
    """A table or record batch as an Arrow IPC stream."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, block.schema) as writer:
        writer.write(block)
    return sink.getvalue()


def dumps_definition(definition: Any) -> bytes:
    """A function or class by value, as it is sent to workers once."""
    from . import by_value

    try:
        return by_value.dumps(definition)
    except Exception as error:
        raise _refusal(definition, error) from error


def loads_definition(data: bytes) -> Any:
    """Rebuilds what :func:`dumps_definition` wrote."""
    return pickle.loads(data)
