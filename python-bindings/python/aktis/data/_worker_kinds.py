"""Workers of several kinds for one function: what users say of them, one kind after the other.

>>> from aktis.data import ActorPoolStrategy
>>> pools = [ActorPoolStrategy(size=1, num_gpus=1, batch_size=256), ActorPoolStrategy(size=2, num_cpus=4, batch_size=32)]
>>> [(kind.placed["num_gpus"], kind.batch_size) for kind in kinds_of("map_batches()", pools)]
[(1, 256), (None, 32)]
>>> kinds_of("map_batches()", [])
Traceback (most recent call last):
...
ValueError: map_batches(compute=[]) names no kind of worker: give an ActorPoolStrategy for each kind, or leave compute out
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._compute import ActorPoolStrategy, TaskPoolStrategy

#: What each worker holds, as a step says it of all of its workers, and a strategy of its own.
RESOURCES = ("num_cpus", "num_gpus", "memory", "resources")
#: What a kind may say of a native model: how it computes, and nothing of what comes out.
_OF_MODELS = ("device", "intra_threads", "replicas", "token_budget", "byte_budget", "batch_size")


class Kind(NamedTuple):
    """One kind of worker, with all that is said of it."""

    #: As the user wrote it; None: nothing.
    strategy: Any
    #: By the names of the options.
    placed: dict[str, Any]
    #: Rows of a call, as the user wrote them.
    batch_size: Any
    constructor_kwargs: Mapping[str, Any] | None


def kinds_of(
    call: str,
    compute: Any,
    *,
    placed: Mapping[str, Any] | None = None,
    batch_size: Any = None,
    constructor_kwargs: Mapping[str, Any] | None = None,
    has_batches: bool = True,
) -> list[Kind]:
    """The kinds of workers of a step, the first one first: what the step says holds for all that say nothing themselves.

    Args:
        call: What the user called.
        compute: What it was given as ``compute``.
        placed: The resources that it was given.
        batch_size: The same of batches.
        constructor_kwargs: The same of ``fn_constructor_kwargs``.
        has_batches: Whether the function gets batches, whose size may be said.
    """
    is_list = isinstance(compute, (list, tuple))
    strategies = _checked(call, compute) if is_list else [compute]
    of_step = {name: (placed or {}).get(name) for name in RESOURCES}
    kinds = [_kind(call, strategy, of_step, batch_size, constructor_kwargs) for strategy in strategies]
    pools = [strategy for strategy in strategies if isinstance(strategy, ActorPoolStrategy)]
    if not has_batches and any(pool.batch_size is not None for pool in pools):
        raise ValueError(f"{call}: ActorPoolStrategy(batch_size=...) is for map_batches(), whose functions get batches")
    return kinds


def _checked(call: str, strategies: Sequence[Any]) -> list[ActorPoolStrategy]:
    shown = call.removesuffix("()")
    if not strategies:
        raise ValueError(
            f"{shown}(compute=[]) names no kind of worker: give an ActorPoolStrategy for each kind, or leave compute out"
        )
    wrong = [number for number, strategy in enumerate(strategies) if not isinstance(strategy, ActorPoolStrategy)]
    if wrong:
        strategy = strategies[wrong[0]]
        actors = ": they are actors, also those of functions" if isinstance(strategy, TaskPoolStrategy) else ""
        raise ValueError(
            f"{shown}(compute=[...]) takes an ActorPoolStrategy for each kind of worker, not {strategy!r} at place {wrong[0]}{actors}"
        )
    for number, strategy in enumerate(strategies):
        for before, other in enumerate(strategies[:number]):
            if strategy._says() == other._says():
                raise ValueError(
                    f"{shown}(compute=[...]) has the same kind of worker at places {before} and {number}: say how many there are with "
                    "size=, or min_size= and max_size=, of one of them; kinds differ in their resources, batch_size or "
                    "fn_constructor_kwargs"
                )
    return list(strategies)


def _kind(
    call: str, strategy: Any, of_step: Mapping[str, Any], batch_size: Any, constructor_kwargs: Mapping[str, Any] | None
) -> Kind:
    if not isinstance(strategy, ActorPoolStrategy):
        return Kind(strategy, dict(of_step), batch_size, constructor_kwargs)
    own = {name: _one(call, name, of_step[name], getattr(strategy, name)) for name in RESOURCES}
    kwargs = strategy.fn_constructor_kwargs
    both = sorted(set(kwargs or ()) & set(constructor_kwargs or ()))
    if both:
        raise ValueError(
            f"{call}: fn_constructor_kwargs has {both[0]!r}, and so has an ActorPoolStrategy in compute: leave it out of one of them"
        )
    made = {**(constructor_kwargs or {}), **kwargs} if kwargs else constructor_kwargs
    return Kind(strategy, own, _one(call, "batch_size", batch_size, strategy.batch_size), made)


def _one(call: str, name: str, of_step: Any, own: Any) -> Any:
    """What holds of an option that both may say."""
    if own is None or of_step is None or own == of_step:
        return of_step if own is None else own
    raise ValueError(
        f"{call}: {name}={of_step!r} is given beside compute=ActorPoolStrategy({name}={own!r}): leave one of them out. What the step "
        "says is for kinds of workers that say nothing themselves"
    )


def of_all_alike(pool: ActorPoolStrategy, placed: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The resources of workers whose calls nobody can choose: CPUs, GPUs, memory, others."""
    for name in ("batch_size", "fn_constructor_kwargs"):
        if getattr(pool, name) is not None:
            raise ValueError(
                f"ActorPoolStrategy({name}=...) is for map_batches(), and map() and its kin take fn_constructor_kwargs"
            )
    own = kinds_of("this step", pool, placed=placed)[0].placed
    return own["num_cpus"], own["num_gpus"], own["memory"], own["resources"]


def of_model(call: str, model: Any, kind: Kind) -> Any:
    """The description of a native model for workers of a kind."""
    if not isinstance(kind.strategy, ActorPoolStrategy):
        return model
    if kind.strategy.batch_size is not None:
        raise ValueError(
            f"{call}: ActorPoolStrategy(batch_size=...) is for functions, and {type(model).__name__} makes its batches itself: its "
            "token_budget or batch_size may differ by kind, in fn_constructor_kwargs"
        )
    kwargs = kind.strategy.fn_constructor_kwargs or {}
    of_kind = copy.copy(model)
    for name, value in kwargs.items():
        if name not in _OF_MODELS or not hasattr(model, name):
            known = ", ".join(name for name in _OF_MODELS if hasattr(model, name))
            raise ValueError(
                f"{call}: ActorPoolStrategy(fn_constructor_kwargs={{{name!r}: ...}}) of a {type(model).__name__}: kinds of workers may "
                f"differ in {known}; all else is the same for all of them"
            )
        setattr(of_kind, name, value)
    return of_kind
