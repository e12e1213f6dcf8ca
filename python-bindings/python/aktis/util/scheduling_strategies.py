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
    #: Ray's, not supported: only ``False``.
    _spill_on_unavailable: bool = False
    #: Ray's, not supported: only ``False``.
    _fail_on_unavailable: bool = False

    def __post_init__(self) -> None:
        for name in ("_spill_on_unavailable", "_fail_on_unavailable"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} of NodeAffinitySchedulingStrategy is not supported: soft=True runs elsewhere when the node is "
                    "gone, soft=False waits for its resources"
                )
