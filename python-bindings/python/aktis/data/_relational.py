"""What puts datasets together, and parts of them by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._native import Recorder

if TYPE_CHECKING:
    from .dataset import Dataset


def _seed(call: str, seed: Any) -> int | None:
    """A seed as the plan takes it."""
    if seed is not None and not isinstance(seed, int):
        raise ValueError(f"{call}(): seed must be a whole number or None, not {seed!r}")
    return None if seed is None else seed % (1 << 64)


class Relational:
    """The methods of a dataset that look at all of its rows."""

    _plan: Any
    _then: Callable[[Any], Dataset]

    def random_sample(self, fraction: float, *, seed: int | None = None) -> Dataset:
        """A part of the rows by chance: each of them with the same probability.

        Args:
            fraction: the probability, from 0 to 1.
            seed: a number that always draws the same rows, as long as the dataset is read in the same parts; ``None``: others in
                every run.

        Returns:
            A dataset with about this part of the rows, in their order.

        Raises:
            ValueError: the fraction is not from 0 to 1, or the seed is no whole number.

        >>> import aktis.data
        >>> 400 < aktis.data.range(1000).random_sample(0.5, seed=1).count() < 600
        True
        """
        return self._then(self._plan.sample(float(fraction), _seed("random_sample", seed)))

    def union(self, *other: Dataset) -> Dataset:
        """The rows of this dataset and of others, one dataset after the other.

        Args:
            other: any number of datasets.

        Returns:
            A dataset of all rows. Columns go together by name, each of a type that all values fit into; what a dataset does
            not have is null there.

        Raises:
            ValueError: a column has no type in common.

        >>> import aktis.data
        >>> aktis.data.range(2).union(aktis.data.range(1)).take_all()
        [{'id': 0}, {'id': 1}, {'id': 0}]
        """
        others = [dataset._plan for dataset in other]
        if all(isinstance(plan, Recorder) for plan in others) and not isinstance(self._plan, Recorder):
            others = [plan._native for plan in others]
        return self._then(self._plan.union(others))
