"""Calls of ``get`` that hold up the actor they are made in.

```text
 get of ...                      in a sync actor, or a constructor     in an async actor, on its loop
 a call of the actor itself      can never end: an error               can never end: an error
 anything that is not ready      as it should be                       a warning: nothing else of the actor runs
```
An actor with several threads or concurrency groups may wait for itself.
"""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from .._session import session

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._aktis import ObjectRef

#: The kind of the actor that this process is: a host's, or "sync" while it is made. ``None`` elsewhere.
_kind: str | None = None
_runs_several = False
#: Results of calls that this actor has made of itself, and the name of the method.
_own_calls: weakref.WeakKeyDictionary[ObjectRef[Any], str] = weakref.WeakKeyDictionary()


def watch(kind: str, *, runs_several: bool) -> None:
    """This process is an actor: ``get`` looks here first from now on.

    Args:
        kind: of its host.
        runs_several: whether another method can run while one blocks.
    """
    global _kind, _runs_several
    _kind, _runs_several = kind, runs_several
    session.before_get = check


def noting_own_calls(call: Callable[..., Any], actor_id: str, name: str) -> Callable[..., Any]:
    """``call``, whose results are remembered if they come from the actor that this process is."""
    if _kind is None:
        return call
    from .. import _aktis

    if _aktis.context()["actor_id"] != actor_id:
        return call

    def noted(*args: Any, **kwargs: Any) -> Any:
        made = call(*args, **kwargs)
        if not _runs_several:
            for ref in made if isinstance(made, list) else [made]:
                if isinstance(ref, _aktis.ObjectRef):
                    _own_calls[ref] = name
        return made

    return noted


def check(refs: Any) -> None:
    """Raises, or warns, if waiting for these references holds up the actor that waits."""
    is_on_loop = _kind == "async" and _is_on_loop()
    may_wait_for_itself = bool(_own_calls) and not _runs_several
    if not is_on_loop and not (may_wait_for_itself and threading.current_thread() is threading.main_thread()):
        return
    waited = [ref for ref in (refs if isinstance(refs, list) else [refs]) if hasattr(ref, "is_ready")]
    for ref in waited if may_wait_for_itself else ():
        name = _own_calls.get(ref)
        if name is not None and not ref.is_ready():
            raise RuntimeError(_deadlock(name))
    if is_on_loop and not all(ref.is_ready() for ref in waited):
        warnings.warn(
            "get() blocks the event loop of this async actor: none of its methods goes on meanwhile. Use 'await ref', or "
            "'await asyncio.gather(*refs)'",
            RuntimeWarning,
            stacklevel=3,
        )


def _deadlock(name: str) -> str:
    return (
        f"get() would wait for ever: {name} is a method of this very actor, which runs it when the present method has ended. "
        "Call the method directly (self.method()), return the reference and let the caller get it, await it in an async actor, "
        "or give the actor max_concurrency"
    )


def _is_on_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
