"""What the cluster consists of: nodes and resources."""

from __future__ import annotations

from typing import Any

from . import session


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, the dead ones too, in Ray's form.

    Returns:
        One dictionary per node, among others with ``NodeID`` (hexadecimal), ``Alive``, ``NodeManagerAddress`` and
        ``Resources`` (memory in bytes).

    >>> import aktis
    >>> [node["Alive"] for node in aktis.nodes()]
    [True]
    """
    session.ensure_connected()
    found: list[dict[str, Any]] = session.runtime.nodes()
    return found


def cluster_resources() -> dict[str, float]:
    """All resources of the living nodes, by name.

    Returns:
        Their sums: ``CPU`` and ``GPU`` are counts, ``memory`` and ``object_store_memory`` bytes.

    >>> import aktis
    >>> aktis.cluster_resources()["CPU"] > 0
    True
    """
    return _sum("Resources")


def available_resources() -> dict[str, float]:
    """Resources that nobody holds at this moment, by name; what is used up is left out.

    Returns:
        As :func:`cluster_resources`. Nodes report every half second, so it may be a little old.

    >>> import aktis
    >>> aktis.available_resources().get("CPU", 0) <= aktis.cluster_resources()["CPU"]
    True
    """
    return {name: quantity for name, quantity in _sum("Available").items() if quantity > 0}


def _sum(field: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for node in nodes():
        if node["Alive"]:
            for name, quantity in {**_own_resource(node), **node[field]}.items():
                total[name] = round(total.get(name, 0.0) + quantity, 4)
    return total


def _own_resource(node: dict[str, Any]) -> dict[str, float]:
    """Every node is a resource of its own, as in Ray."""
    address = node["NodeManagerAddress"]
    # A node in laptop mode has a socket in a folder, not an address.
    return {f"node:{'127.0.0.1' if address.startswith('unix:') else address.rpartition(':')[0] or address}": 1.0}


def get_gpu_ids() -> list[int]:
    """The GPUs that the running task or actor may use; empty in a driver.

    Returns:
        Their numbers on the node. In the process they are ``cuda:0``, ``cuda:1`` and so on.

    >>> import aktis
    >>> aktis.get_gpu_ids()
    []
    """
    session.ensure_connected()
    return list(session.runtime.context()["gpu_ids"])
