"""Settings of all datasets of this process."""

from __future__ import annotations

import dataclasses
from typing import ClassVar


@dataclasses.dataclass
class ExecutionResources:
    """Limits of one execution. Only the memory for blocks is a limit of its own; CPUs and GPUs are the cluster's."""

    object_store_memory: float | None = None


@dataclasses.dataclass
class ExecutionOptions:
    """How datasets run.

    ``preserve_order``: whether rows come in the order of the source. ``None`` keeps order where rows come back to this
    process (``take``, ``iter_batches``, ``to_pandas``, ...) and not where they go into files, whose names say the order
    anyway.
    """

    resource_limits: ExecutionResources = dataclasses.field(default_factory=ExecutionResources)
    preserve_order: bool | None = None
    verbose_progress: bool = True


@dataclasses.dataclass
class DataContext:
    """Settings of all datasets of this process.

    >>> context = DataContext.get_current()
    >>> context.execution_options.preserve_order = True
    >>> DataContext.get_current().execution_options.preserve_order
    True
    >>> context.execution_options.preserve_order = None
    """

    execution_options: ExecutionOptions = dataclasses.field(default_factory=ExecutionOptions)
    target_max_block_size: int | None = None
    enable_progress_bars: bool = True
    max_worker_deaths_per_input: int = 3

    _current: ClassVar[DataContext | None] = None

    @staticmethod
    def get_current() -> DataContext:
        """The settings in force."""
        if DataContext._current is None:
            DataContext._current = DataContext()
        return DataContext._current
