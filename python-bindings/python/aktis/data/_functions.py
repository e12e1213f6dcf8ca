"""From what the user gives to ``map_batches`` and its kin to what travels to workers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._compute import ActorPoolStrategy, TaskPoolStrategy

#: Arguments of Ray that change nothing here.
IGNORED_REMOTE_ARGS = frozenset(
    {"max_restarts", "max_task_retries", "max_retries", "retry_exceptions", "max_calls", "runtime_env",
     "scheduling_strategy", "label_selector", "fallback_strategy", "accelerator_type", "max_concurrency"}
)  # fmt: skip


def name_of(function: Any) -> str:
    """A name for messages."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return name if isinstance(name, str) else type(function).__name__


def definition_of(
    function: Any,
    *,
    kind: str,
    name: str,
    batch_format: str = "numpy",
    zero_copy: bool = True,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    constructor_args: Iterable[Any] | None = None,
    constructor_kwargs: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes that ``_worker.load`` makes a function of."""
    from aktis import _by_value

    is_class = inspect.isclass(function)
    if not callable(function):
        raise TypeError(f"{name}: a function or a class is needed, not {type(function).__name__}")
    if is_class and "__call__" not in dir(function):
        raise TypeError(f"{name}: the class {function.__name__} has no __call__(self, batch)")
    if not is_class and (constructor_args or constructor_kwargs):
        raise ValueError(f"{name}: fn_constructor_args are for classes, and {name_of(function)} is a function")
    definition = {
        "function": function,
        "is_class": is_class,
        "kind": kind,
        "name": name,
        "batch_format": batch_format,
        "zero_copy": zero_copy,
        "args": tuple(args or ()),
        "kwargs": dict(kwargs or {}),
        "constructor_args": tuple(constructor_args or ()),
        "constructor_kwargs": dict(constructor_kwargs or {}),
    }
    try:
        return _by_value.dumps(definition)
    except Exception as error:
        raise TypeError(
            f"{name}: it cannot be sent to workers, because something that it uses cannot be pickled: {error}. Make such "
            "things inside the function, or in the __init__ of a class"
        ) from error


def check_batch_size(batch_size: Any, num_gpus: float | None) -> int | None:
    """Rows per call for what the user wrote."""
    if batch_size == "default":
        return 1024
    if batch_size in (None, "auto"):
        if num_gpus:
            raise ValueError(
                "map_batches(num_gpus=...) needs a batch_size: the best one depends on the model, the data and the GPU; "
                "try 32 and double it until memory is full"
            )
        return None
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be None, 'auto' or a whole number of at least 1, not {batch_size!r}")
    return batch_size


def compute_of(
    function: Any,
    *,
    compute: Any = None,
    concurrency: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    resources: Mapping[str, float] | None = None,
    remote_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Workers and their resources, as the plan takes them."""
    unknown = set(remote_args or ()) - IGNORED_REMOTE_ARGS
    if unknown:
        raise TypeError(f"map_batches() got unknown arguments: {', '.join(sorted(unknown))}")
    is_class = inspect.isclass(function) or is_embedder(function)
    strategy = _strategy_of(is_class, compute, concurrency)
    is_actors = isinstance(strategy, ActorPoolStrategy)
    amounts = dict(resources or {})
    for name, amount in (("CPU", num_cpus), ("GPU", num_gpus), ("memory", memory)):
        if amount is not None:
            if not isinstance(amount, (int, float)) or amount < 0:
                raise ValueError(f"the amount of {name} must be a number of at least 0, not {amount!r}")
            amounts[name] = amount
    if "CPU" not in amounts and not amounts.get("GPU"):
        amounts["CPU"] = 1
    is_default = strategy is None and num_cpus is None and not num_gpus and not resources and memory is None
    minimum = strategy.min_size if is_actors else 1
    maximum = strategy.max_size if is_actors else strategy.size if strategy else None
    return {
        "is_actors": is_actors or is_class,
        "min_workers": minimum,
        "max_workers": maximum,
        "resources": {name: float(amount) for name, amount in amounts.items()},
        "is_default": is_default,
    }


def _strategy_of(is_class: bool, compute: Any, concurrency: Any) -> ActorPoolStrategy | TaskPoolStrategy | None:
    if compute is not None and concurrency is not None:
        raise ValueError("give either compute or concurrency (which is deprecated), not both")
    if concurrency is not None:
        if isinstance(concurrency, tuple):
            if not is_class or len(concurrency) not in (2, 3):
                raise ValueError("concurrency as a tuple is (min, max) and for classes; functions take a number")
            return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1])
        return ActorPoolStrategy(size=concurrency) if is_class else TaskPoolStrategy(size=concurrency)
    if compute in ("tasks", "actors"):
        compute = TaskPoolStrategy() if compute == "tasks" else ActorPoolStrategy()
    if compute is not None and not isinstance(compute, (ActorPoolStrategy, TaskPoolStrategy)):
        raise ValueError(f"compute must be an ActorPoolStrategy or a TaskPoolStrategy, not {compute!r}")
    if is_class and isinstance(compute, TaskPoolStrategy):
        raise ValueError(
            "a class needs compute=ActorPoolStrategy(...): a TaskPoolStrategy keeps no state between calls"
        )
    return compute


def is_embedder(function: Any) -> bool:
    """Whether it is the description of a native model."""
    return callable(getattr(function, "spec_json", None)) and not inspect.isclass(function)


def embedder_spec(function: Any, compute: dict[str, Any], num_cpus: float | None) -> str:
    """The specification of a native model for a pool: its actors share the processors of a machine."""
    if num_cpus is not None:
        return function.spec_json(replicas=max(1, int(num_cpus)))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return function.spec_json(replicas=max(1, processors // compute["min_workers"]))


def apply_kind(function: Callable[..., Any], prefix: str) -> str:
    """`Map(f)`: a name for messages and statistics."""
    return f"{prefix}({name_of(function)})"
