"""Datasets of torch and of its kind: whatever has items by number, or one after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from aktis.data import _batches
from aktis.data.block import BlockMetadata
from aktis.data.datasource import Datasource, ReadTask

_ROWS_PER_BATCH = 256


class Items(Datasource):
    """The items of a dataset in the column ``item``."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._has_numbers = (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not _is_iterated(type(dataset))
        )
        if not self._has_numbers and not hasattr(dataset, "__iter__"):
            raise TypeError(f"from_torch() takes a torch.utils.data.Dataset, not {type(dataset).__name__}")

    def get_name(self) -> str:
        return "Torch"

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        if not self._has_numbers:
            return [ReadTask(_Iterated(self._dataset), BlockMetadata())]
        rows = len(self._dataset)
        bounds = [rows * part // parallelism for part in range(parallelism + 1)]
        return [
            ReadTask(_Numbered(self._dataset, begin, end), BlockMetadata(num_rows=end - begin))
            for begin, end in itertools.pairwise(bounds)
            if end > begin
        ]


def _is_iterated(kind: type) -> bool:
    """Whether it is torch's ``IterableDataset``, which has a ``__getitem__`` that only raises, and may tell its length."""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__}
    return ("torch", "IterableDataset") in names


class _Numbered:
    def __init__(self, dataset: Any, begin: int, end: int) -> None:
        self._dataset, self._begin, self._end = dataset, begin, end

    def __call__(self) -> Iterator[Any]:
        return _batched(self._dataset[index] for index in range(self._begin, self._end))


class _Iterated:
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self) -> Iterator[Any]:
        return _batched(self._dataset)


def _batched(items: Iterable[Any]) -> Iterator[Any]:
    rows: list[dict[str, Any]] = []
    for item in items:
        rows.append({"item": item})
        if len(rows) == _ROWS_PER_BATCH:
            yield _batches.rows_to_arrow(rows, "from_torch()")
            rows = []
    if rows:
        yield _batches.rows_to_arrow(rows, "from_torch()")
