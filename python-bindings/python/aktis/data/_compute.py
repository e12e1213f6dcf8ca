"""How wide a function runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ActorPoolStrategy:
    """Run a class in a pool of actors: it is constructed once per actor and called with batch after batch.

    Give ``size`` for a fixed pool, or ``min_size`` and ``max_size`` for one that grows with the work. A list of them is workers of
    several kinds, which take from the same rows: GPUs and processors, say.

    Args:
        legacy_min_size: ``min_size``, as older scripts for Ray give it, by position.
        legacy_max_size: ``max_size``, as older scripts for Ray give it, by position.
        size: Actors of a pool that does not change.
        min_size: Actors that there are at least, while there is work; 1 by default.
        max_size: Actors that there are at most; by default as many as there is room for.
        initial_size: Actors as long as nobody knows how long the work takes; ``min_size`` by default.
        max_tasks_in_flight_per_actor: An actor has one input at a time, so every limit is kept.
        max_concurrent_calls_per_actor: Calls of an async class or function that overlap in one actor; 4 by default. For
            others it has a meaning only with ``enable_true_multi_threading``.
        enable_true_multi_threading: Calls that are not async overlap too, on threads. The class must bear that.
        num_cpus: CPUs of each actor of this pool, where the step does not say it of all: by default 1, and 0 with ``num_gpus``.
        num_gpus: GPUs of each; may be a fraction.
        memory: Bytes of memory of each.
        resources: More resources of each.
        batch_size: Rows per call in this pool, where the step does not say it.
        fn_constructor_kwargs: Keyword arguments of the class in this pool, besides those that the step gives: ``{"device": "cuda"}``.
            Of a native model, what is different in this pool, such as its device.

    Raises:
        ValueError: ``size`` is given beside other sizes, a number is not a whole one of at least 1, or ``max_size`` is smaller
            than ``min_size``, or ``initial_size`` not between them.

    Example:

        >>> ActorPoolStrategy(size=2)
        ActorPoolStrategy(min_size=2, max_size=2)
        >>> ActorPoolStrategy(min_size=2, max_size=10)
        ActorPoolStrategy(min_size=2, max_size=10)
        >>> ActorPoolStrategy(size=1, num_gpus=1, batch_size=256)
        ActorPoolStrategy(min_size=1, max_size=1, num_gpus=1, batch_size=256)
    """

    def __init__(
        self,
        legacy_min_size: int | None = None,
        legacy_max_size: int | None = None,
        *,
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        initial_size: int | None = None,
        max_tasks_in_flight_per_actor: int | None = None,
        max_concurrent_calls_per_actor: int | None = None,
        enable_true_multi_threading: bool = False,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        batch_size: int | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        min_size = min_size if min_size is not None else legacy_min_size
        max_size = max_size if max_size is not None else legacy_max_size
        if size is not None:
            if min_size is not None or max_size is not None or initial_size is not None:
                raise ValueError("ActorPoolStrategy: give either size, or min_size and max_size")
            _check_count("ActorPoolStrategy", "size", size)
            min_size = max_size = size
        min_size = 1 if min_size is None else min_size
        _check_count("ActorPoolStrategy", "min_size", min_size)
        if max_size is not None:
            _check_count("ActorPoolStrategy", "max_size", max_size)
            if max_size < min_size:
                raise ValueError(f"ActorPoolStrategy: max_size ({max_size}) is smaller than min_size ({min_size})")
        if initial_size is not None and not min_size <= initial_size <= (max_size or initial_size):
            raise ValueError("ActorPoolStrategy: initial_size must be between min_size and max_size")
        self.min_size = min_size
        self.max_size = max_size
        for name, count in (
            ("max_tasks_in_flight_per_actor", max_tasks_in_flight_per_actor),
            ("max_concurrent_calls_per_actor", max_concurrent_calls_per_actor),
        ):
            if count is not None:
                _check_count("ActorPoolStrategy", name, count)
        self.initial_size = initial_size or min_size
        self.has_initial_size = initial_size is not None
        self.max_tasks_in_flight_per_actor = max_tasks_in_flight_per_actor
        self.max_concurrent_calls_per_actor = max_concurrent_calls_per_actor
        self.enable_true_multi_threading = enable_true_multi_threading
        for name, amount in (("num_cpus", num_cpus), ("num_gpus", num_gpus), ("memory", memory)):
            if amount is not None and (isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0):
                raise ValueError(f"ActorPoolStrategy: {name} must be a number of at least 0, not {amount!r}")
        for name, given in (("resources", resources), ("fn_constructor_kwargs", fn_constructor_kwargs)):
            if given is not None and not isinstance(given, Mapping):
                raise ValueError(f"ActorPoolStrategy: {name} must be a dict, not {given!r}")
        if batch_size is not None:
            _check_count("ActorPoolStrategy", "batch_size", batch_size)
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory = memory
        self.resources = resources
        self.batch_size = batch_size
        self.fn_constructor_kwargs = fn_constructor_kwargs

    def _says(self) -> dict[str, Any]:
        """What it says of its workers besides their number."""
        names = ("num_cpus", "num_gpus", "memory", "resources", "batch_size", "fn_constructor_kwargs")
        said = {name: getattr(self, name) for name in names}
        return {name: value for name, value in said.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorPoolStrategy) and (self.min_size, self.max_size, self._says()) == (
            other.min_size,
            other.max_size,
            other._says(),
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        said = "".join(f", {name}={value!r}" for name, value in self._says().items())
        return f"ActorPoolStrategy(min_size={self.min_size}, max_size={self.max_size}{said})"


class TaskPoolStrategy:
    """Run a function in stateless workers, at most ``size`` at once.

    Args:
        size: Workers; by default as many as there are CPUs for.

    Raises:
        ValueError: ``size`` is not a whole number of at least 1.

    >>> TaskPoolStrategy(size=4)
    TaskPoolStrategy(size=4)
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None:
            _check_count("TaskPoolStrategy", "size", size)
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskPoolStrategy) and self.size == other.size

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TaskPoolStrategy(size={self.size})"


def _check_count(owner: str, name: str, value: int) -> None:
    if isinstance(value, float) and value == float("inf"):
        raise ValueError(f"{owner}: leave {name} out for no limit")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{owner}: {name} must be a whole number of at least 1, not {value!r}")
