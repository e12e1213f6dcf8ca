"""Aktis: tasks, actors and batch inference on one laptop or many nodes.

>>> import aktis
>>> @aktis.remote
... def square(x):
...     return x * x
>>> aktis.get([square.remote(i) for i in range(4)])
[0, 1, 4, 9]

Names, arguments and defaults are those of Ray: an existing script runs with ``import aktis as ray``.

Importing this package imports nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys

# As type checkers know it. The module `typing` would take longer to import than everything else here.
TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import actor, data, exceptions, models, remote_function, runtime_context, testing, util
    from ._aktis import ObjectRef, ObjectRefGenerator
    from ._calls.decorators import method, remote
    from ._calls.objects import cancel, get, put, wait
    from ._session.cluster import available_resources, cluster_resources, get_gpu_ids, nodes
    from ._session.session import init, is_initialized, shutdown
    from .actor import ActorClass, ActorHandle, get_actor, kill
    from .runtime_context import get_runtime_context

#: Where each public name is defined.
_MODULE_OF = {
    "ActorClass": "actor",
    "ActorHandle": "actor",
    "ObjectRef": "_aktis",
    "ObjectRefGenerator": "_aktis",
    "available_resources": "_session.cluster",
    "cancel": "_calls.objects",
    "cluster_resources": "_session.cluster",
    "get": "_calls.objects",
    "get_actor": "actor",
    "get_gpu_ids": "_session.cluster",
    "get_runtime_context": "runtime_context",
    "init": "_session.session",
    "is_initialized": "_session.session",
    "kill": "actor",
    "method": "_calls.decorators",
    "nodes": "_session.cluster",
    "put": "_calls.objects",
    "remote": "_calls.decorators",
    "shutdown": "_session.session",
    "wait": "_calls.objects",
}
_SUBMODULES = frozenset(
    {"actor", "data", "exceptions", "models", "remote_function", "runtime_context", "testing", "util"}
)
__all__ = [
    "ActorClass",
    "ActorHandle",
    "ObjectRef",
    "ObjectRefGenerator",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "data",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "models",
    "nodes",
    "put",
    "remote",
    "remote_function",
    "runtime_context",
    "shutdown",
    "testing",
    "util",
    "wait",
]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    from ._messages.missing import explained

    raise AttributeError(explained(__name__, name, __all__))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _ExplainsMissing:
    """Says what to use instead of modules and names of Ray's that are imported from here and are not here."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith(f"{__name__}."):
            from ._messages.missing import refuse_module

            refuse_module(name)


# The last one: it is asked for what nobody has found.
sys.meta_path.append(_ExplainsMissing)  # type: ignore[arg-type]
