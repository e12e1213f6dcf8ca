"""Settings of all datasets of this process."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from . import _failing
from ._keywords import Refused, _equal
from ._ray_settings import CONTEXT_HARMLESS, CONTEXT_REFUSED, OPTIONS_HARMLESS, OPTIONS_REFUSED, RESOURCES_REFUSED
from .checkpoint import CheckpointConfig


class Settings:
    """Settings with a name: what Aktis has not is refused when it is set, and not ignored.

    Ray's settings that would change what happens take only the values that mean "off"; those that tune what is made in
    another way here can be set and read again; everything else is a mistake.
    """

    _harmless: ClassVar[dict[str, str]] = {}
    _refused: ClassVar[dict[str, Refused]] = {}
    #: What raises for a value that makes no sense: of the class, the setting and the value.
    _checked: ClassVar[dict[str, Callable[[str, str, Any], None]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        known = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        owner = type(self).__name__
        if name in self._refused:
            refused = self._refused[name]
            if not any(value is fine or _equal(value, fine) for fine in refused.accepted):
                raise NotImplementedError(f"{owner}.{name} = {value!r} is not there yet: {refused.way_out}")
        elif name not in known and name not in self._harmless:
            nearest = difflib.get_close_matches(name, [*known, *self._harmless, *self._refused], n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; there are {', '.join(known)}"
            raise AttributeError(f"{owner} has no setting {name!r}{hint}")
        if name in self._checked:
            self._checked[name](owner, name, value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Only asked for what was never set.
        if name in self._refused:
            return self._refused[name].accepted[0]
        if name in self._harmless:
            return None
        raise AttributeError(f"{type(self).__name__} has no setting {name!r}")


@dataclasses.dataclass
class ExecutionResources(Settings):
    """Limits of one execution. Only the memory for blocks is a limit of its own; CPUs and GPUs are the cluster's.

    Attributes:
        object_store_memory: Bytes of blocks that wait between the steps or are being read; by default half of the object store.
        cpu: Ray's; only ``None``, the default.
        gpu: Ray's; only ``None``, the default.
        memory: Ray's; only ``None``, the default.

    >>> import aktis.data
    >>> limits = aktis.data.DataContext.get_current().execution_options.resource_limits
    >>> limits.object_store_memory = 256 * 1024**2
    >>> limits.object_store_memory = None
    >>> ExecutionResources(cpu=2)
    Traceback (most recent call last):
    ...
    NotImplementedError: ExecutionResources.cpu = 2 is not there yet: limit the workers of a step with compute=...
    """

    cpu: float | None = None
    gpu: float | None = None
    object_store_memory: float | None = None
    memory: float | None = None

    _refused: ClassVar[dict[str, Refused]] = RESOURCES_REFUSED


@dataclasses.dataclass
class ExecutionOptions(Settings):
    """How datasets run.

    Attributes:
        resource_limits: Limits of one execution, by default those that :class:`ExecutionResources` names.
        preserve_order: Whether rows come in the order of the source. ``None``, the default, keeps order where rows come back to
            this process (``take``, ``iter_batches``, ``to_pandas``, ...) and not where they go into files, whose names say the
            order anyway.
        others: Ray's, as they can be set.

    >>> import aktis.data
    >>> aktis.data.DataContext.get_current().execution_options.preserve_order is None
    True
    """

    resource_limits: ExecutionResources = dataclasses.field(default_factory=ExecutionResources)
    preserve_order: bool | None = None

    def __init__(
        self,
        resource_limits: ExecutionResources | None = None,
        *,
        preserve_order: bool | None = None,
        **others: Any,
    ) -> None:
        self.resource_limits = resource_limits or ExecutionResources()
        self.preserve_order = preserve_order
        for name, value in others.items():
            try:
                setattr(self, name, value)
            except AttributeError as error:
                raise TypeError(f"ExecutionOptions() got an unknown argument {name!r}: {error}") from None

    _harmless: ClassVar[dict[str, str]] = OPTIONS_HARMLESS
    _refused: ClassVar[dict[str, Refused]] = OPTIONS_REFUSED


@dataclasses.dataclass
class DataContext(Settings):
    """Settings of all datasets of this process.

    They hold for runs that begin later. A setting that is not there is an ``AttributeError``; one of Ray's that would change
    what happens takes only what means "off", and others raise ``NotImplementedError`` with the way out.

    Attributes:
        execution_options: Order and memory, by default those that :class:`ExecutionOptions` names.
        target_max_block_size: Bytes of a block, the unit in which rows go from worker to worker. By default (``None``) a
            fourth of the memory for blocks, shared by all workers (an eighth, where that is less than 256 MiB), but
            between 64 KiB and 32 MiB.
        enable_progress_bars: Whether runs that take longer than a second show how far they are, on a terminal or in a
            notebook; elsewhere they never do. ``True`` by default. ``AKTIS_PROGRESS=0`` in the environment turns it off
            without a change to the program.
        max_worker_deaths_per_input: How many workers may die over the same rows, or while they start, before the job fails;
            3 by default. Exceptions are no deaths: what becomes of them ``on_error`` says.

        warn_on_driver_memory_usage_bytes: From how many bytes on ``take_all``, ``to_arrow`` and ``to_pandas`` warn that they bring
            many into this process, before they begin where that is known; 2 GiB by default. ``None``: never.
        max_driver_bytes: With how many bytes they fail. ``None``, the default: never.
        checkpoint_config: Jobs that write files go on where they were left, also with ``None``, the default. With a
            :class:`aktis.data.checkpoint.CheckpointConfig` those that cannot warn before they begin.
        on_error: What becomes of rows that a function fails for, where the step does not say: ``"raise"``, the default, fails the
            job; ``"skip"`` leaves them out, and ``"dead_letter"`` puts them aside (see :meth:`Dataset.map_batches`).
        max_errors: How many rows of a step may fail, where it gives no limit of its own; ``None``, the default: any number.
        max_error_ratio: The same as a share of the rows that come to it; ``None``, the default: any.
        batch_timeout_s: How many seconds a call of a function may take, where the step does not say; ``None``, the default: any.
        time_limit_s: How many seconds a run may take; ``None``, the default: any. One that takes longer is ended with a ``TimeoutError``
            that says how far it was; a job that writes files goes on from there when it is run again.
        max_errored_blocks: Ray's: how many batches may have rows that fail; these are left out, and -1 is any number. 0 by default:
            the first one fails the job, unless ``on_error`` says something else.

    >>> context = DataContext.get_current()
    >>> context.execution_options.preserve_order = True
    >>> DataContext.get_current().execution_options.preserve_order
    True
    >>> context.execution_options.preserve_order = None
    >>> context.target_max_blok_size = 1
    Traceback (most recent call last):
    ...
    AttributeError: DataContext has no setting 'target_max_blok_size'; did you mean 'target_max_block_size'?
    """

    execution_options: ExecutionOptions = dataclasses.field(default_factory=ExecutionOptions)
    target_max_block_size: int | None = None
    enable_progress_bars: bool = True
    max_worker_deaths_per_input: int = 3
    warn_on_driver_memory_usage_bytes: int | None = 2 << 30
    max_driver_bytes: int | None = None
    checkpoint_config: CheckpointConfig | None = None
    on_error: Literal["raise", "skip", "dead_letter"] = "raise"
    max_errors: int | None = None
    max_error_ratio: float | None = None
    batch_timeout_s: float | None = None
    time_limit_s: float | None = None
    max_errored_blocks: int = 0

    _harmless: ClassVar[dict[str, str]] = CONTEXT_HARMLESS
    _refused: ClassVar[dict[str, Refused]] = CONTEXT_REFUSED
    _checked: ClassVar[dict[str, Callable[[str, str, Any], None]]] = {
        "on_error": _failing.check_chosen,
        "max_errors": _failing.check_count,
        "max_error_ratio": _failing.check_ratio,
        "batch_timeout_s": _failing.check_seconds,
        "time_limit_s": _failing.check_seconds,
        "max_errored_blocks": _failing.check_blocks,
    }
    _current: ClassVar[DataContext | None] = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "checkpoint_config" and value is not None:
            value = CheckpointConfig.of(value)
        super().__setattr__(name, value)

    @staticmethod
    def get_current() -> DataContext:
        """The settings in force.

        Returns:
            The same object each time: what is set on it holds for all datasets of this process.
        """
        if DataContext._current is None:
            DataContext._current = DataContext()
        return DataContext._current
