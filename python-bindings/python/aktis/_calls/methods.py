"""What a handle knows of its actor's class: its name, and its methods with their parameters and options."""

from __future__ import annotations

import functools
import inspect
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from .._process.actor_host import BUILT_IN_METHODS
from .signature import Parameters, parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Attribute of a method that holds what :func:`aktis.method` was given.
OPTIONS_ATTRIBUTE = "__aktis_method_options__"


#: What every class has is not a method to call from afar.
_OF_EVERY_OBJECT = frozenset(dir(object))


class MethodSpec(NamedTuple):
    """One method, as callers need to know it."""

    parameters: Parameters | None
    is_generator: bool
    options: dict[str, Any]


class ClassSpec(NamedTuple):
    """A class of actors, as callers need to know it."""

    class_name: str
    methods: dict[str, MethodSpec]

    def pickled(self) -> bytes:
        """For :func:`class_spec_from`."""
        return pickle.dumps((self.class_name, {name: tuple(spec) for name, spec in self.methods.items()}), protocol=5)


@functools.lru_cache(maxsize=256)
def class_spec_from(pickled: bytes) -> ClassSpec:
    """Reads what :meth:`ClassSpec.pickled` wrote. Handles of one class share the result."""
    class_name, methods = pickle.loads(pickled)
    return ClassSpec(class_name, {name: MethodSpec(*spec) for name, spec in methods.items()})


def class_spec_of(cls: type[Any]) -> ClassSpec:
    """Looks a class over.

    >>> class Counter:
    ...     def add(self, amount=1): ...
    >>> class_spec_of(Counter).methods["add"].parameters
    (('amount', 1, True),)
    """
    names = [name for name in dir(cls) if name not in _OF_EVERY_OBJECT]
    found = {name: _method_spec(inspect.getattr_static(cls, name)) for name in names}
    methods = {name: spec for name, spec in found.items() if spec is not None}
    built_in = {name: _method_spec(method) for name, method in BUILT_IN_METHODS.items()}
    methods.update((name, spec) for name, spec in built_in.items() if spec is not None)
    return ClassSpec(cls.__name__, methods)


def _method_spec(member: Any) -> MethodSpec | None:
    """``None``: not a method."""
    is_static = isinstance(member, staticmethod)
    function = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
    if isinstance(function, type) or not callable(function):
        return None
    return MethodSpec(
        parameters_of(function, skip_first=not is_static),
        _is_generator(function),
        dict(getattr(function, OPTIONS_ATTRIBUTE, {})),
    )


def _is_generator(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
