"""What only runs where this process does."""

from __future__ import annotations


def check_is_here(what: str, way_out: str) -> None:
    """Raises where workers may be elsewhere: of one node, all are here.

    >>> check_is_here("Mine.supports_distributed_reads", "give from_items() the rows")
    """
    import aktis

    if sum(node["Alive"] for node in aktis.nodes()) > 1:
        raise NotImplementedError(
            f"{what} = False is not there yet for clusters of several nodes, whose workers are not all here: {way_out}"
        )
