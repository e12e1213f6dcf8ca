"""Options of tasks, actors and methods: which there are, what they may be, and what the native module is told.

>>> from aktis._calls.options import TASK_OPTIONS, check_options
>>> check_options("task", TASK_OPTIONS, {"num_cpu": 1})
Traceback (most recent call last):
...
ValueError: unknown option 'num_cpu' of a task: did you mean 'num_cpus'? Known are gpu_memory, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .quantities import check_gpus, check_quantity, check_resources

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Ray's options that are accepted and change nothing, and why that is no loss.
HARMLESS = {
    "enable_task_events": "no events of single tasks are recorded, so there are none to leave out",
    "_labels": "Ray's dashboard shows them; what a task does never depends on them",
    "_metadata": "Ray's own libraries leave notes for each other here",
}
_BY_ORDER = (
    "calls of one caller start in the order in which they were made. Put calls that need not wait for each other into concurrency "
    "groups, or get the arguments first"
)
_NO_GROUP = (
    "there are no placement groups. Ask for the resources in each actor, with scheduling_strategy='SPREAD' or a "
    "NodeAffinitySchedulingStrategy"
)
_NO_LABELS = (
    "nodes are not chosen by labels. Start them with a resource of your own, and ask for it with resources={...}"
)
_AT_METHOD = "give _generator_backpressure_num_objects to the method, by @aktis.method or .options()"
_ONE_TRANSPORT = "values travel by the object store only. Leave it out"
#: Ray's options that would change what happens, and that Aktis does not have: the values that are accepted because they ask
#: for nothing, and what to do instead.
_ONLY_DEFAULT: dict[str, tuple[tuple[Any, ...], str]] = {
    "label_selector": ((None, {}), _NO_LABELS),
    "fallback_strategy": ((None, []), _NO_LABELS),
    "accelerator_type": ((None,), _NO_LABELS),
    "placement_group": ((None, "default"), _NO_GROUP),
    "placement_group_bundle_index": ((None, -1), _NO_GROUP),
    "placement_group_capture_child_tasks": ((None, False), _NO_GROUP),
    "enable_tensor_transport": ((None, False), _ONE_TRANSPORT),
    "tensor_transport": ((None, "object_store"), _ONE_TRANSPORT),
    "object_store_memory": ((None, 0), "the store belongs to the node: give it to init(), or to 'aktis start'"),
    "allow_out_of_order_execution": ((None, False), _BY_ORDER),
    "_num_objects_per_yield": (
        (None, 1),
        "each item of a generator is an object of its own. Yield lists to send fewer",
    ),
    "_actor_generator_backpressure_num_objects": ((None, -1), _AT_METHOD),
}
_OF_ACTORS = frozenset({"allow_out_of_order_execution", "_actor_generator_backpressure_num_objects"})
_COMMON = frozenset({
    "name", "num_cpus", "num_gpus", "gpu_memory", "memory", "object_store_memory", "resources", "runtime_env",
    "scheduling_strategy", "_generator_backpressure_num_objects", *HARMLESS, *_ONLY_DEFAULT,
})  # fmt: skip
TASK_OPTIONS = (_COMMON - _OF_ACTORS) | {
    "max_calls", "max_retries", "num_returns", "retry_exceptions",
}  # fmt: skip
ACTOR_OPTIONS = _COMMON | {
    "concurrency_groups", "lifetime", "max_concurrency", "max_restarts", "max_task_retries", "max_pending_calls",
    "namespace", "get_if_exists",
}  # fmt: skip
METHOD_OPTIONS = frozenset({
    "name", "num_returns", "concurrency_group", "max_task_retries", "retry_exceptions", "tensor_transport",
    "enable_tensor_transport", "_generator_backpressure_num_objects", "_num_objects_per_yield", *HARMLESS,
})  # fmt: skip


def check_options(what: str, known: frozenset[str], options: Mapping[str, Any]) -> None:
    """Raises for an option that does not exist or a value that makes no sense.

    Args:
        what: "task", "actor" or "method", for the message.
        known: names of the options it has.
        options: as the user gave them.
    """
    owner = f"an {what}" if what[0] in "aeiou" else f"a {what}"
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r} of {owner}{_suggestion(name, known)}")
        if name in _ONLY_DEFAULT and value not in _ONLY_DEFAULT[name][0]:
            raise ValueError(f"option {name}={value!r} of {owner} is not supported: {_ONLY_DEFAULT[name][1]}")
        _check_value(name, value)
    if what == "actor" and options.get("_generator_backpressure_num_objects") not in (None, -1):
        raise ValueError(f"option _generator_backpressure_num_objects of an actor is not supported: {_AT_METHOD}")


def _suggestion(name: str, known: frozenset[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    useful = sorted(each for each in known if not each.startswith("_") and each not in {*HARMLESS, *_ONLY_DEFAULT})
    return (f": did you mean {close[0]!r}?" if close else ".") + f" Known are {', '.join(useful)}"


def _check_value(name: str, value: Any) -> None:
    if name in ("num_cpus", "memory", "object_store_memory", "gpu_memory"):
        check_quantity(name, value)
    elif name == "num_gpus":
        check_gpus(value)
    elif name == "resources":
        check_resources(value)
    elif name in _INTEGERS:
        _check_integer(name, value, _INTEGERS[name])
    elif name in _CHECKS:
        _CHECKS[name](value)


#: Options that are whole numbers, and the smallest each may be. -1 means "without limit".
_INTEGERS = {
    "max_calls": 0,
    "max_retries": -1,
    "max_restarts": -1,
    "max_task_retries": -1,
    "max_concurrency": 1,
    "max_pending_calls": -1,
}


def _check_integer(name: str, value: Any, smallest: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number: got {value!r}")
    if value < smallest:
        limit = "-1 (without limit), 0 or more" if smallest == -1 else f"{smallest} or more"
        raise ValueError(f"{name} must be {limit}: got {value}")


def _check_window(value: Any) -> None:
    _check_integer("_generator_backpressure_num_objects", value, -1)
    if value == 0:
        raise ValueError("_generator_backpressure_num_objects must be -1 (without limit), 1 or more: got 0")


def _check_num_returns(value: Any) -> None:
    if value is None or value == "streaming":
        return
    if value == "dynamic":
        raise ValueError(
            'num_returns="dynamic" is not supported (Ray deprecated it): use num_returns="streaming", which gives a generator of '
            "references that are there as soon as they are made"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'num_returns must be a whole number or "streaming": got {value!r}')
    if value < 0:
        raise ValueError(f"num_returns cannot be negative: got {value}")


def _check_retry_exceptions(value: Any) -> None:
    if isinstance(value, bool) or value is None:
        return
    types = list(value) if isinstance(value, (list, tuple)) else [None]
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        raise TypeError(f"retry_exceptions must be True, False or a list of exception types: got {value!r}")


def _check_name(value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name must be a string: got {value!r} of type {type(value).__name__}")


def _check_namespace(value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"namespace must be a string that is not empty: got {value!r}")


def _check_lifetime(value: Any) -> None:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f'lifetime must be None, "non_detached" or "detached": got {value!r}')


def _check_concurrency_groups(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value):
        raise TypeError(f"concurrency_groups must map names of groups to numbers of calls: got {value!r}")
    for name, count in value.items():
        _check_integer(f"concurrency group {name!r}", count, 1)


def _check_runtime_env(value: Any) -> None:
    if value:
        raise ValueError(
            "runtime_env is not supported for single tasks and actors: give env_vars to init(runtime_env=...), or set "
            "os.environ inside the function"
        )


def _check_strategy(value: Any) -> None:
    native_strategy(value)


_CHECKS = {
    "num_returns": _check_num_returns,
    "_generator_backpressure_num_objects": _check_window,
    "retry_exceptions": _check_retry_exceptions,
    "name": _check_name,
    "namespace": _check_namespace,
    "lifetime": _check_lifetime,
    "concurrency_groups": _check_concurrency_groups,
    "runtime_env": _check_runtime_env,
    "scheduling_strategy": _check_strategy,
}


def native_strategy(value: Any) -> str | tuple[str, str, bool]:
    """A scheduling strategy as the native module reads it.

    >>> native_strategy("SPREAD"), native_strategy(None)
    ('SPREAD', 'DEFAULT')
    """
    if value is None or value in ("DEFAULT", "SPREAD"):
        return value or "DEFAULT"
    # Recognised by its fields, so that Ray's own class works too.
    if hasattr(value, "node_id") and hasattr(value, "soft"):
        return "node", str(value.node_id), bool(value.soft)
    raise ValueError(
        f'scheduling_strategy must be "DEFAULT", "SPREAD" or a NodeAffinitySchedulingStrategy: got {value!r}'
    )


def native_resources(options: dict[str, Any], default_cpus: float | None) -> dict[str, float] | None:
    """What a task or actor asks of its node; ``None`` if it asks for nothing and there is no default."""
    wanted = {name: float(quantity) for name, quantity in (options.get("resources") or {}).items()}
    for resource, name in (("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")):
        if options.get(name) is not None:
            wanted[resource] = float(options[name])
    if default_cpus is None:
        return wanted or None
    wanted.setdefault("CPU", default_cpus)
    return wanted


def native_retries(options: dict[str, Any]) -> dict[str, Any]:
    """On which exceptions of the application a call is repeated."""
    wanted = options.get("retry_exceptions")
    if isinstance(wanted, (list, tuple)):
        import cloudpickle

        return {"retry_exceptions": True, "retry_exception_types": cloudpickle.dumps(tuple(wanted), protocol=5)}
    return {"retry_exceptions": bool(wanted)}


def native_returns(num_returns: Any, *, is_generator: bool) -> dict[str, Any]:
    """How many references a call gives. Generators stream unless told otherwise."""
    if num_returns is None:
        num_returns = "streaming" if is_generator else 1
    if isinstance(num_returns, str):
        return {"streaming": True}
    return {"num_returns": num_returns}


def native_window(options: dict[str, Any]) -> dict[str, Any]:
    """How many items of a generator may be unread before it waits."""
    limit = options.get("_generator_backpressure_num_objects")
    return {"max_unread_items": limit} if limit is not None and limit > 0 else {}


def native_task_options(options: dict[str, Any], *, is_generator: bool) -> dict[str, Any]:
    """Options of a task for the native module."""
    native: dict[str, Any] = {
        "resources": native_resources(options, default_cpus=1.0),
        "strategy": native_strategy(options.get("scheduling_strategy")),
        "name": options.get("name") or "",
        **native_window(options),
        **native_returns(options.get("num_returns"), is_generator=is_generator),
        **native_retries(options),
    }
    if options.get("gpu_memory"):
        native["gpu_memory_bytes"] = int(options["gpu_memory"])
    if options.get("max_retries") is not None:
        native["max_retries"] = options["max_retries"]
    # As in Ray: a process that used a GPU ends after its call, because few libraries give its memory back.
    max_calls = options.get("max_calls")
    native["max_calls"] = max_calls if max_calls is not None else int(bool(options.get("num_gpus")))
    return native


def native_actor_options(options: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Options of an actor for the native module."""
    native: dict[str, Any] = {
        "resources": native_resources(options, default_cpus=None),
        "strategy": native_strategy(options.get("scheduling_strategy")),
        "name": options.get("name") or "",
        "namespace": options.get("namespace") or namespace,
        "detached": options.get("lifetime") == "detached",
        "get_if_exists": bool(options.get("get_if_exists")),
    }
    if native["resources"] is not None and options.get("num_cpus") is None:
        # As in Ray: who asks for anything, but not for CPUs, runs without one.
        native["resources"].setdefault("CPU", 0.0)
    if options.get("gpu_memory"):
        native["gpu_memory_bytes"] = int(options["gpu_memory"])
    for name in ("max_restarts", "max_task_retries", "max_concurrency", "max_pending_calls"):
        if options.get(name) is not None:
            native[name] = options[name]
    return native


def native_method_options(options: dict[str, Any], *, is_generator: bool) -> dict[str, Any]:
    """Options of a method call for the native module."""
    return {
        **native_returns(options.get("num_returns"), is_generator=is_generator),
        **native_window(options),
        "max_task_retries": options.get("max_task_retries"),
        "concurrency_group": options.get("concurrency_group"),
        "name": options.get("name"),
        **(native_retries(options) if options.get("retry_exceptions") is not None else {}),
    }
