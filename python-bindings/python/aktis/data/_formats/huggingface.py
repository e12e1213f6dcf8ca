"""Datasets of Hugging Face that are iterated: their rows as tables of Arrow."""

from __future__ import annotations

from typing import Any

from aktis.data.datasource import Datasource, ReadTask

_ROWS_PER_BATCH = 1000


class Iterated(Datasource):
    """One task: such a dataset has no other order than its own."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def get_name(self) -> str:
        return "HuggingFace"

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        dataset = self._dataset
        return [ReadTask(lambda: dataset.with_format("arrow").iter(batch_size=_ROWS_PER_BATCH))]
