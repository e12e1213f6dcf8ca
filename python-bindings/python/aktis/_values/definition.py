"""Functions and classes on their way to workers: exported once per session, then known by an id.

A definition may refer to things of the session, for example a function that uses an actor handle from a global variable.
References must be counted, so their bytes cannot lie in a table. They are cut out of the definition, kept here, and sent
along with every call; the worker puts them back when it first loads the definition.

```text
 driver   function ──dump──► bytes with gaps ──export──► table          captured references ──► first argument
 worker   table ──load──► function, or a Capturing that waits for its first call to fill the gaps
```
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from typing import Any, NamedTuple

from .._session import session

_local = threading.local()

#: What stands for a definition that ``aktis.testing.local()`` keeps begins so; a pickle never does.
KEPT = b"aktis.testing.local:"
#: A definition of more bytes than this is warned of, or refused: it lies in the head's table, and every worker reads it. As in Ray.
_LARGE_BYTES, _TOO_LARGE_BYTES = 10 << 20, 100 << 20


class Definition:
    """A function or class and what this process knows of its export."""

    def __init__(self, target: Any, payload: Payload | None = None):
        """``payload``: what ``target`` was loaded from, in a worker; exporting it again gives the same id."""
        self.target = target
        self._is_loaded = payload is not None
        self._payload = payload
        self._exported: tuple[int, bytes] | None = None

    def export(self, owner: Any) -> tuple[bytes, tuple[Any, ...]]:
        """Makes the definition known to the session: its id, and the arguments to put before the user's.

        Args:
            owner: the remote function or actor class of this definition, which may occur in it (recursion).
        """
        generation = session.generation()
        if self._exported is None or self._exported[0] != generation:
            if not self._is_loaded:
                self._payload = _dump(self.target, owner)
            assert self._payload is not None, "it was loaded or has just been dumped"
            self._exported = generation, session.runtime.export(self._payload.data)
        assert self._payload is not None, "an exported definition keeps what it exported"
        captured = self._payload.captured
        return self._exported[1], (list(captured),) if captured else ()


class Payload(NamedTuple):
    """A definition as it travels: the bytes of the table, and the references that were cut out of them."""

    data: bytes
    captured: list[Any]


def _dump(target: Any, owner: Any) -> Payload:
    from .serialization import _refusal

    local = session.local()
    if local is not None:
        return Payload(local.keep(target), [])

    stream = io.BytesIO()
    captured: list[Any] = []
    pickler = _definition_pickler()(stream, owner, captured)
    try:
        pickler.dump(target)
    except Exception as error:
        raise _refusal(target, error) from error
    data = pickle.dumps((_import_paths(), bool(captured), stream.getvalue()), protocol=5)
    if len(data) > _LARGE_BYTES:
        _complain_of_size(target, len(data))
    return Payload(data, captured)


def _complain_of_size(target: Any, size: int) -> None:
    from .unpicklable import largest_part

    if isinstance(target, dict):  # a function of a dataset, with what it is called with
        name, function, way_out = (
            target["name"],
            target["function"],
            "call aktis.get(ref) in it, or in the __init__ of a class",
        )
    else:
        name, function = getattr(target, "__qualname__", repr(target)), target
        way_out = "pass the reference as an argument"
    part, part_size = largest_part(function)
    where = f", most of it in {part} ({part_size >> 20} MB)" if part else ""
    message = (
        f"the definition of {name} has {size >> 20} MB{where}, and every worker reads all of it: put it once, "
        f"ref = aktis.put(value), and {way_out}"
    )
    if size > _TOO_LARGE_BYTES:
        raise ValueError(f"{message}. The limit is {_TOO_LARGE_BYTES >> 20} MB")
    from .._messages.user_warning import warn

    warn(message)


def _import_paths() -> list[str]:
    """Where this process imports from, for workers on machines that have these folders too."""
    return [path for path in sys.path if path]


def _definition_pickler() -> Any:
    """The pickler of definitions. Made at first use, because cloudpickle takes long to import."""
    global _Pickler
    if _Pickler is None:
        from .._aktis import ObjectRef
        from . import by_value

        class DefinitionPickler(by_value.pickler()):  # type: ignore[misc]
            def __init__(self, stream: io.BytesIO, owner: Any, captured: list[Any]):
                super().__init__(stream, protocol=5)
                self._owner = owner
                self._captured = captured

            def reducer_override(self, obj: Any) -> Any:
                if obj is self._owner:
                    return _loading_owner, (type(obj), obj._options)
                if isinstance(obj, ObjectRef):
                    self._captured.append(obj)
                    return _captured_value, (len(self._captured) - 1,)
                return super().reducer_override(obj)

        _Pickler = DefinitionPickler
    return _Pickler


_Pickler: Any = None


def load(data: bytes) -> Any:
    """In a worker: what can be called for a definition; the class for an actor's."""
    local = session.local()
    if local is not None or data.startswith(KEPT):
        return kept_definition(local, data)
    paths, has_gaps, pickled = pickle.loads(data)
    sys.path += [path for path in paths if path not in sys.path]
    capturing = Capturing(data, pickled)
    return capturing if has_gaps else capturing.resolve([])


def kept_definition(local: Any, data: bytes) -> Any:
    """What ``aktis.testing.local()`` has kept instead of sending it."""
    target = local.kept(data) if local is not None else None
    if target is None:
        where = (
            "within an aktis.testing.local() that is over"
            if data.startswith(KEPT)
            else "outside of this aktis.testing.local()"
        )
        raise RuntimeError(
            f"this function, or the dataset that calls it, was made {where}: make it where it runs, because local() runs functions "
            "as they are, and workers copies of them"
        )
    return target


class Capturing:
    """A definition that refers to references; its first argument brings them."""

    def __init__(self, data: bytes, pickled: bytes):
        self._data = data
        self._pickled = pickled
        self._target: Any = None

    def __call__(self, captured: list[Any], *args: Any, **kwargs: Any) -> Any:
        return self.resolve(captured)(*args, **kwargs)

    def resolve(self, captured: list[Any]) -> Any:
        """The definition itself."""
        if self._target is None:
            self._target = self._load(captured)
        return self._target

    def _load(self, captured: list[Any]) -> Any:
        _local.captured, _local.owner = captured, None
        try:
            target = pickle.loads(self._pickled)
            if _local.owner is not None:
                _local.owner._adopt(target, Payload(self._data, captured))
            return target
        finally:
            _local.captured, _local.owner = [], None


def resolve_class(definition: Any, args: tuple[Any, ...]) -> tuple[type[Any], tuple[Any, ...]]:
    """The class of an actor, and the arguments of its constructor."""
    if isinstance(definition, Capturing):
        return definition.resolve(args[0]), args[1:]
    return definition, args


def _captured_value(position: int) -> Any:
    return _local.captured[position]


def _loading_owner(kind: type[Any], options: dict[str, Any]) -> Any:
    """The remote function or actor class whose definition is being loaded: it occurs in itself."""
    if _local.owner is None:
        _local.owner = kind._unfinished(options)
    return _local.owner
