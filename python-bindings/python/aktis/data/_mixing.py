"""Datasets interleaved by weight."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _native, _parts

if TYPE_CHECKING:
    from .dataset import Dataset

#: Rows of one dataset that come one after another, at most, while a thousand such pieces are enough for all of them.
_PIECE_ROWS = 1024
_MOST_PIECES = 1000


class MixStoppingCondition(enum.Enum):
    """When datasets that are mixed end.

    >>> MixStoppingCondition("stop_on_shortest").name
    'STOP_ON_SHORTEST'
    """

    #: When the first of them has no rows left.
    STOP_ON_SHORTEST = "stop_on_shortest"
    #: When none of them has; the others go on without those that have ended.
    STOP_ON_LONGEST_DROP = "stop_on_longest_drop"


def checked(weights: Sequence[float] | None, datasets: int) -> list[float]:
    """A weight for each of so many datasets."""
    given = [1.0] * datasets if weights is None else list(weights)
    if len(given) != datasets:
        raise ValueError(f"mix() got {len(given)} weights for {datasets} datasets: the first is that of this dataset")
    if not all(weight > 0 for weight in given):
        raise ValueError(f"mix(): weights must be greater than 0, not {given}")
    return given


class Mix:
    """Datasets whose pieces are put in order when they are run."""

    def __init__(self, datasets: list[Dataset], weights: list[float], stop: MixStoppingCondition) -> None:
        self._datasets = datasets
        self._weights = weights
        self._stop = stop

    def outline(self) -> Any:
        first, *others = self._datasets
        return first._plan.union([other._plan for other in others])

    def settled(self) -> Any:
        wholes = [dataset.materialize() for dataset in self._datasets]
        pieces = [_pieces(whole._parts) for whole in wholes]
        order = mixed([[piece.rows for piece in each] for each in pieces], self._weights, self._stop)
        plans = [_parts.plan_of(whole._schema, []) for whole in wholes]
        # Of the union of them, which has the columns of all.
        schema = plans[0].union(plans[1:]).schema()
        left = [iter(each) for each in pieces]
        return _parts.plan_of(schema, [next(left[index]) for index in order])


def _pieces(parts: Sequence[_parts.Part]) -> list[_parts.Part]:
    """The parts in pieces, so that datasets of few blocks are mixed as well."""
    most = max(_PIECE_ROWS, _parts.rows_of(parts) // _MOST_PIECES)
    return [part.rest(first).first(most) for part in parts for first in range(0, part.rows, most)]


def mixed(rows: Sequence[Sequence[int]], weights: Sequence[float], stop: MixStoppingCondition) -> list[int]:
    """From which dataset each piece comes, of those with so many rows: always from the one that is furthest behind its weight.

    >>> mixed([[1, 1, 1], [1, 1]], [2, 1], MixStoppingCondition.STOP_ON_LONGEST_DROP)
    [0, 1, 0, 0, 1]
    >>> mixed([[1, 1, 1], [1, 1]], [1, 2], MixStoppingCondition.STOP_ON_SHORTEST)
    [1, 0, 1]
    """
    whole = sum(weights)
    seen = [0] * len(rows)
    places = [0] * len(rows)
    order: list[int] = []
    while True:
        left = [index for index, pieces in enumerate(rows) if places[index] < len(pieces)]
        if not left or (stop is MixStoppingCondition.STOP_ON_SHORTEST and len(left) < len(rows)):
            return order
        total = sum(seen)
        index = max(left, key=lambda each: (weights[each] / whole * total - seen[each], weights[each], -each))
        seen[index] += rows[index][places[index]]
        places[index] += 1
        order.append(index)


def plan_of(datasets: list[Dataset], weights: list[float], stop: MixStoppingCondition) -> Any:
    """The plan of the datasets, mixed."""
    return _native.deferred(Mix(datasets, weights, stop))
