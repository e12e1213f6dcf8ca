"""Signs of functions and values that stay the same from process to process, and change when what they do changes.

Pickles will not do: they have the order of sets, names of files and the sharing of strings in them. What counts of a function is its
bytecode, its constants and defaults, what it closes over, and the globals that it names; of those the ones of libraries by name and
version, the user's own in their turn.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._rate_limits import RateLimit

#: Of larger arrays only the form is looked at, unless all has to count.
_MOST_BYTES = 64 << 20
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


class Described(bytes):
    """The bytes of a definition, which know what they were made of."""

    #: By name.
    parts: Mapping[str, Any]
    #: For people.
    name: str
    #: What its calls wait for, which is none of what it does.
    limit: RateLimit | None

    @classmethod
    def of(cls, data: bytes, name: str, parts: Mapping[str, Any], limit: RateLimit | None = None) -> Described:
        """``data``, made of ``parts``."""
        made = cls(data)
        made.name, made.parts, made.limit = name, parts, limit
        return made

    def __reduce__(self) -> Any:
        # In another process nobody asks what it was made of.
        return (bytes, (bytes(self),)) if self.limit is None else (_limited, (bytes(self), self.name, self.limit))


def _limited(data: bytes, name: str, limit: RateLimit) -> Described:
    return Described.of(data, name, {}, limit)


def fingerprint(value: Any, *, is_exact: bool = False) -> str:
    """A sign of a function, class or value. ``is_exact``: what is in large arrays counts, too, which takes a second for each gigabyte.

    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    signer = _Signer(is_exact=is_exact)
    signer.add(value)
    return signer.digest.hexdigest()


class _Signer:
    def __init__(self, *, is_exact: bool) -> None:
        self._is_exact = is_exact
        self.digest = hashlib.blake2b(digest_size=16)
        #: Things under way or done, and their numbers: what comes again is the same, and may be part of itself. They are kept, so that
        #: no other one gets their ids.
        self._seen: dict[int, tuple[int, Any]] = {}

    def _say(self, *words: Any) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
            self.digest.update(len(data).to_bytes(8, "little"))
            self.digest.update(data)

    def add(self, value: Any) -> None:
        """Adds a thing, whatever it is."""
        if isinstance(value, _PLAIN):
            self._say(type(value).__name__, value if isinstance(value, bytes) else repr(value))
            return
        known = self._seen.setdefault(id(value), (len(self._seen), value))
        if known[0] < len(self._seen) - 1:
            self._say("again", known[0])
            return
        self._add_new(value)

    def _add_new(self, value: Any) -> None:
        if isinstance(value, types.CodeType):
            self._add_code(value)
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, (types.MethodType, functools.partial)):
            self._add_bound(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, types.ModuleType):
            self._say("module", value.__name__, _version(value.__name__))
        elif isinstance(value, (staticmethod, classmethod)):
            self._say(type(value).__name__)
            self.add(value.__func__)
        elif isinstance(value, property):
            self._add_all("property", (value.fget, value.fset, value.fdel))
        elif isinstance(value, (list, tuple)):
            self._add_all(type(value).__name__, value)
        elif isinstance(value, (set, frozenset)):
            # In no order; what is in one is no part of itself.
            signs = sorted(fingerprint(part, is_exact=self._is_exact) for part in value)
            self._say(type(value).__name__, *signs)
        elif isinstance(value, Mapping):
            self._add_all(type(value).__name__, (part for item in value.items() for part in item))
        else:
            self._add_object(value)

    def _add_all(self, kind: str, parts: Iterable[Any]) -> None:
        self._say("begin", kind)
        for part in parts:
            self.add(part)
        self._say("end")

    def _add_code(self, code: types.CodeType) -> None:
        self._say("code", code.co_code, code.co_argcount, code.co_kwonlyargcount, code.co_flags, *code.co_varnames)
        self._say(*code.co_names, *code.co_freevars)
        constants = code.co_consts
        # The first constant may be the documentation.
        self._add_all("constants", constants)

    def _add_function(self, function: types.FunctionType) -> None:
        # One without a name of its own is not told apart by it.
        if not _is_users(function.__module__) and "<" not in function.__qualname__:
            self._say("function", function.__module__, function.__qualname__, _version(function.__module__))
            return
        self.add(function.__code__)
        self._add_all("defaults", (function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # a name that has no value yet
                self._say("empty")
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                self._say("global", name)
                self.add(function.__globals__[name])

    def _add_bound(self, value: Any) -> None:
        if isinstance(value, functools.partial):
            self._add_all("partial", (value.func, value.args, value.keywords))
        else:
            self._add_all("method", (value.__func__, value.__self__))

    def _add_class(self, kind: type) -> None:
        self._say("class", kind.__module__, kind.__qualname__)
        if not _is_users(kind.__module__):
            self._say(_version(kind.__module__))
            return
        for base in kind.__bases__:
            self.add(base)
        for name, member in sorted(vars(kind).items()):
            if name in ("__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__"):
                continue
            if name.startswith("__") and not callable(member) and not isinstance(member, (staticmethod, classmethod)):
                continue
            self._say(name)
            self.add(member)

    def _add_object(self, value: Any) -> None:
        kind = type(value)
        self._say("object", kind.__module__, kind.__qualname__)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            self._add_array(value)
        elif hasattr(kind, "signed_parts"):
            # It says itself what counts of it: not a password, for one.
            self._add_all("parts", value.signed_parts())
        elif inspect.isbuiltin(value):
            self._say(getattr(value, "__module__", None), value.__qualname__)
        elif _is_users(kind.__module__):
            self.add(kind)
            self._add_all("state", sorted(getattr(value, "__dict__", {}).items()))
        else:
            self._add_pickled(value)

    def _add_array(self, value: Any) -> None:
        self._say(value.dtype, tuple(value.shape))
        size = getattr(value, "nbytes", None)
        is_small = isinstance(size, int) and size <= _MOST_BYTES
        if (is_small or self._is_exact) and hasattr(value, "__array__"):
            import numpy

            try:
                array = numpy.asarray(value)
            except Exception:  # noqa: BLE001 - numpy lacks its type, or it lies on a device, or is watched for gradients
                self._add_pickled(value)
                return
            if array.dtype.hasobject:
                self._add_all("items", array.ravel().tolist())
            else:
                self._say(array.tobytes())

    def _add_pickled(self, value: Any) -> None:
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - locks, files, handles: they are what they are called
            return
        if isinstance(reduced, str):
            self._say(reduced)
        else:
            # Two of its parts are iterators.
            parts = [list(part) if inspect.isgenerator(part) or hasattr(part, "__next__") else part for part in reduced]
            self._add_all("reduced", parts)


def _names(code: types.CodeType) -> set[str]:
    """The names of globals that a function, or one within it, may use; and of attributes, which are not told apart."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.realpath(paths[name]) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@functools.cache
def _is_users(module: str | None) -> bool:
    """Whether a module is the user's own, and not of a library."""
    if module is None or module in ("builtins", "functools"):
        return False
    if module == "__main__":
        return True
    package = module.partition(".")[0]
    if package == "aktis" or package in sys.stdlib_module_names:
        return False
    path = getattr(sys.modules.get(module), "__file__", None)
    return path is not None and not os.path.realpath(path).startswith(_libraries())


@functools.cache
def _version(module: str | None) -> str:
    """The version of the library that a module is of."""
    package = (module or "").partition(".")[0]
    return str(getattr(sys.modules.get(package), "__version__", "")) if package else ""
