"""Where tasks and actors are to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeAffinitySchedulingStrategy:
    """Runs a task or actor on one node.

    Attributes:
        node_id: as in ``aktis.nodes()[i]["NodeID"]``.
        soft: run it elsewhere if the node is gone, instead of failing.

    >>> import aktis
    >>> from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    >>> @aktis.remote
    ... def where():
    ...     return aktis.get_runtime_context().get_node_id()
    >>> node = aktis.nodes()[0]["NodeID"]
    >>> here = where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    >>> aktis.get(here.remote()) == node
    True
    """

    node_id: str
    soft: bool
