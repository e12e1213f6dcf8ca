"""Names of living actors."""

from __future__ import annotations

from typing import Any

from aktis._session import session

_DEAD = "DEAD"


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the living actors of this namespace.

    Args:
        all_namespaces: of all namespaces, as dictionaries of ``name`` and ``namespace``.

    Returns:
        A list of names, or of dictionaries.

    >>> import aktis
    >>> @aktis.remote
    ... class Empty:
    ...     pass
    >>> keep = Empty.options(name="listed").remote()
    >>> "listed" in aktis.util.list_named_actors()
    True
    """
    session.ensure_connected()
    living = [actor for actor in session.runtime.list_actors() if actor.get("name") and actor.get("state") != _DEAD]
    if all_namespaces:
        return [{"name": actor["name"], "namespace": actor["namespace"]} for actor in living]
    here = session.runtime.context()["namespace"]
    return [actor["name"] for actor in living if actor["namespace"] == here]
