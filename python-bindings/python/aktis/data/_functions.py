"""From what the user gives to ``map_batches`` and its kin to what travels to workers."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _worker_kinds
from ._compute import ActorPoolStrategy, TaskPoolStrategy
from ._fingerprints import Described
from ._overlapping import is_async

if TYPE_CHECKING:
    import pyarrow

    from ._rate_limits import RateLimit
    from ._retrying import Policy

#: Calls of an async function that are under way in one worker, unless the user says otherwise; as in Ray.
ASYNC_CALLS = 4
#: Calls whose rows an input should have, for each call that may be under way: the last of them then rarely wait alone.
CALLS_PER_INPUT = 2
#: The same of async functions over rows, whose calls are single rows: some take much longer than others.
ROWS_PER_INPUT = 16


class Definition(NamedTuple):
    """A function on its way to workers."""

    #: What ``_worker.load`` makes it of.
    data: Described
    #: The object that holds the references that occur in it.
    captured: Any
    #: Calls that may be under way in one worker; of functions over rows, rows.
    calls: int
    #: Calls whose rows an input should have, for each of these.
    calls_per_input: int

    def window_rows(self, batch_size: int | None) -> int:
        """Rows that a worker should have at hand, so that calls overlap; 0: one call's."""
        return self.calls_per_input * self.calls * (batch_size or 1) if self.calls > 1 else 0


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
    calls: Calls | None = None,
    keys: Iterable[str] = (),
    output_schema: pyarrow.Schema | None = None,
    limit: RateLimit | None = None,
    retry: Policy | None = None,
    tokens: Any = None,
) -> Definition:
    """A function, what it is called with and the references in both, as they travel to workers."""
    is_class = inspect.isclass(function)
    if not callable(function):
        raise TypeError(f"{name}: a function or a class is needed, not {type(function).__name__}")
    if is_class and "__call__" not in dir(function):
        raise TypeError(f"{name}: the class {function.__name__} has no __call__(self, batch)")
    if not is_class and (constructor_args or constructor_kwargs):
        raise ValueError(f"{name}: fn_constructor_args are for classes, and {name_of(function)} is a function")
    asks_async = is_async(function)
    calls = calls or Calls()
    most_calls = calls.most(is_async=asks_async)
    for argument, given in (("fn_args", args), ("fn_constructor_args", constructor_args)):
        if isinstance(given, (str, bytes)):
            raise TypeError(f"{name}: {argument} is a tuple of arguments, not {given!r}: give ({given!r},)")
    _check_arguments(function, name, kind, args, kwargs, constructor_args, constructor_kwargs)
    is_of_rows = kind not in ("batches", "column")
    # The calls of rows are counted one by one. On threads one batch of them is prepared while the other is under way. On a loop all
    # batches of an input are, and each goes on when its rows are done: it does not wait for those behind it.
    calls_ahead = most_calls
    if is_of_rows and most_calls > 1:
        calls_ahead = ROWS_PER_INPUT if asks_async else 2
    definition = {
        "is_async": asks_async,
        "max_concurrent_calls": most_calls,
        "calls_ahead": calls_ahead,
        "function": function,
        "is_class": is_class,
        "kind": kind,
        "keys": list(keys),
        "output_schema": output_schema,
        "retry": retry,
        "tokens": tokens,
        "name": name,
        "batch_format": batch_format,
        "zero_copy": zero_copy,
        "args": tuple(args or ()),
        "kwargs": dict(kwargs or {}),
        "constructor_args": tuple(constructor_args or ()),
        "constructor_kwargs": dict(constructor_kwargs or {}),
    }
    try:
        # How fast it is called is none of what it is.
        data, captured = _dumped(definition | {"rate_limit": limit})
    except Exception as error:
        raise TypeError(f"{name} cannot be sent to workers: {_in_words_of_the_user(str(error))}") from error
    # Apart from the rest, so that an error has a name also where the rest cannot be loaded.
    described = Described.of(pickle.dumps((name, data), protocol=5), name, definition, limit)
    per_input = ROWS_PER_INPUT if is_of_rows and asks_async else CALLS_PER_INPUT
    return Definition(described, captured, most_calls, per_input)


def _check_arguments(
    function: Any, name: str, kind: str, args: Any, kwargs: Any, constructor_args: Any, constructor_kwargs: Any
) -> None:
    """Raises where the function is given, and not in a worker, if it cannot be called with what it will get."""
    got = "a batch" if kind in ("batches", "column") else "a row"
    called = function
    if inspect.isclass(function):
        constructor = f"{function.__name__}.__init__"
        _check_fits(name, constructor, "what fn_constructor_args= and fn_constructor_kwargs= give", function, constructor_args, constructor_kwargs)  # fmt: skip
        called = vars(function).get("__call__")
        if not inspect.isfunction(called):
            return  # inherited, static or of another kind: the worker will tell
        args = (None, *(args or ()))
    _check_fits(name, name_of(function), f"{got}, and what fn_args= and fn_kwargs= give", called, (None, *(args or ())), kwargs)  # fmt: skip


def _check_fits(name: str, what: str, gets: str, called: Any, args: Any, kwargs: Any) -> None:
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # as of some native functions
        return
    try:
        signature.bind(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        raise TypeError(f"{name}: {what}{signature} is called with {gets}: {error}") from None


def _in_words_of_the_user(text: str) -> str:
    """What pickling says of a definition, with the arguments of the user in the place of its fields."""
    for field, argument in (
        ("['function']", ""),
        ("['args']", "fn_args"),
        ("['kwargs']", "fn_kwargs"),
        ("['constructor_args']", "fn_constructor_args"),
        ("['constructor_kwargs']", "fn_constructor_kwargs"),
    ):
        text = text.replace(f"found at {field}", f"found at {argument}", 1)
    return text.replace("found at  ", "found at ", 1)


def _dumped(definition: dict[str, Any]) -> tuple[bytes, Any]:
    """The bytes, and an object that holds the references that were cut out of them, as for tasks."""
    from aktis._values import definition as _definition

    payload = _definition._dump(definition, object())
    if not payload.captured:
        return payload.data, None
    import aktis

    return payload.data, aktis.put(payload.captured)


class Calls(NamedTuple):
    """How many calls of a function may be under way in one worker."""

    wanted: int | None = None
    uses_threads: bool = False

    def most(self, *, is_async: bool) -> int:
        """Calls at once. Without a loop or threads they would only wait for each other."""
        if is_async:
            return self.wanted or ASYNC_CALLS
        return (self.wanted or 1) if self.uses_threads else 1


def calls_of(compute: Any, max_concurrency: int | None) -> Calls:
    """What the user wrote about calls at once."""
    wanted, uses_threads = max_concurrency, False
    if isinstance(compute, ActorPoolStrategy):
        wanted = compute.max_concurrent_calls_per_actor or wanted
        uses_threads = compute.enable_true_multi_threading
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1):
        raise ValueError(f"max_concurrency must be a whole number of at least 1, not {wanted!r}")
    return Calls(wanted, uses_threads)


def compute_of(
    function: Any,
    *,
    compute: Any = None,
    concurrency: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    resources: Mapping[str, float] | None = None,
    is_of_kind: bool = False,
) -> dict[str, Any]:
    """Workers and their resources, as the plan takes them. ``is_of_kind``: whoever asks knows what else a strategy may say."""
    is_class = inspect.isclass(function) or is_model(function)
    strategy = _strategy_of(is_class, compute, concurrency)
    pool = strategy if isinstance(strategy, ActorPoolStrategy) else None
    if pool is not None and not is_of_kind:
        placed = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory, "resources": resources}
        num_cpus, num_gpus, memory, resources = _worker_kinds.of_all_alike(pool, placed)
    tasks = strategy if isinstance(strategy, TaskPoolStrategy) else None
    amounts = dict(resources or {})
    for name, amount in (("CPU", num_cpus), ("GPU", num_gpus), ("memory", memory)):
        if amount is not None:
            if not isinstance(amount, (int, float)) or amount < 0:
                raise ValueError(f"the amount of {name} must be a number of at least 0, not {amount!r}")
            amounts[name] = amount
    if "CPU" not in amounts and not amounts.get("GPU"):
        amounts["CPU"] = 1
    is_default = strategy is None and num_cpus is None and not num_gpus and not resources and memory is None
    return {
        "is_actors": pool is not None or is_class,
        "min_workers": pool.min_size if pool is not None else 1,
        "initial_workers": pool.initial_size if pool is not None and pool.has_initial_size else None,
        "max_workers": pool.max_size if pool is not None else tasks.size if tasks is not None else None,
        "resources": {name: float(amount) for name, amount in amounts.items()},
        "is_default": is_default,
        "others": [],
    }


def other_workers(
    compute: Mapping[str, Any],
    *,
    batch_rows: int | None,
    definition: Definition | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Workers of another kind, as the plan takes them: those of ``compute``, with a definition or a model of their own."""
    return {
        **{name: compute[name] for name in ("min_workers", "initial_workers", "max_workers", "resources")},
        "batch_rows": batch_rows,
        "definition": None if definition is None else definition.data,
        "captured": None if definition is None else definition.captured,
        "model": model,
    }


def _strategy_of(is_class: bool, compute: Any, concurrency: Any) -> ActorPoolStrategy | TaskPoolStrategy | None:
    if compute is not None and concurrency is not None:
        raise ValueError("give either compute or concurrency (which is deprecated), not both")
    if concurrency is not None:
        if isinstance(concurrency, tuple):
            if not is_class or len(concurrency) not in (2, 3):
                raise ValueError(
                    "concurrency as a tuple is (min, max) or (min, max, initial) and for classes; functions take a number"
                )
            initial = concurrency[2] if len(concurrency) == 3 else None
            return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1], initial_size=initial)
        return ActorPoolStrategy(size=concurrency) if is_class else TaskPoolStrategy(size=concurrency)
    if compute in ("tasks", "actors"):
        compute = TaskPoolStrategy() if compute == "tasks" else ActorPoolStrategy()
    if compute is not None and not isinstance(compute, (ActorPoolStrategy, TaskPoolStrategy)):
        if isinstance(compute, (list, tuple)):
            raise ValueError(
                "compute as a list, workers of several kinds, is for map_batches(), map(), flat_map() and filter() with a function"
            )
        if inspect.isclass(compute):
            raise ValueError(f"compute must be a strategy, not its class: {compute.__name__}()")
        raise ValueError(f"compute must be an ActorPoolStrategy or a TaskPoolStrategy, not {compute!r}")
    if is_class and isinstance(compute, TaskPoolStrategy):
        raise ValueError(
            "a class needs compute=ActorPoolStrategy(...): a TaskPoolStrategy keeps no state between calls"
        )
    return compute


def is_model(function: Any) -> bool:
    """Whether it is the description of a native model."""
    return callable(getattr(function, "spec_json", None)) and not inspect.isclass(function)


def found(model: Any) -> Any:
    """A native model with its files, which are fetched if it has a name on a hub."""
    return model._found()


#: What options of functions would say of a native model.
_OF_MODELS = {
    "retry_exceptions": "it calls no service, so the same call would fail again",
    "fn_args": "what it is given, it is made with",
    "fn_kwargs": "what it is given, it is made with",
    "fn_constructor_args": "it is made already",
    "fn_constructor_kwargs": "it is made already",
    "input_columns": "it gets the columns that it is made to read",
    "passthrough_columns": "all columns pass by, and select_columns() behind it chooses among them",
    "max_concurrency": "it overlaps its own work; compute=ActorPoolStrategy(size=...) says how many there are",
}


def refuse_for_models(given: Mapping[str, Any], model: Any) -> None:
    """Raises for options of batches of Python functions: a native model has its own."""
    for name, value in given.items():
        if value is not None:
            own = f"{type(model).__name__}({name}=...)"
            otherwise = _OF_MODELS.get(name, "it makes its batches itself")
            way_out = f"give it there, {own}" if hasattr(model, name) else otherwise
            raise ValueError(
                f"map_batches({name}=...) is for functions, and {type(model).__name__} is a model of Aktis: {way_out}"
            )


def model_spec(function: Any, compute: dict[str, Any], num_cpus: float | None) -> str:
    """The specification of a native model for a pool: its actors share the processors of a machine."""
    if num_cpus is not None:
        return function.spec_json(replicas=max(1, int(num_cpus)))
    return function.spec_json(sharing=compute["min_workers"])


def apply_kind(function: Any, prefix: str) -> str:
    """`Map(f)`: a name for messages and statistics."""
    return f"{prefix}({name_of(function)})"
