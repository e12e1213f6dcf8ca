"""Small things built from tasks and actors: a pool of actors, a queue, names of actors, scheduling strategies.

Loaded when they are first used, like everything in :mod:`aktis`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import queue, scheduling_strategies
    from .actor_pool import ActorPool
    from .named_actors import list_named_actors

_MODULE_OF = {"ActorPool": "actor_pool", "list_named_actors": "named_actors"}
_SUBMODULES = frozenset({"actor_pool", "queue", "scheduling_strategies"})

__all__ = ["ActorPool", "actor_pool", "list_named_actors", "queue", "scheduling_strategies"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    from aktis._messages.missing import explained

    raise AttributeError(explained(__name__, name, __all__))
