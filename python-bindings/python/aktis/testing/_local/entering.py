"""Begins and ends a session of one process."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aktis._session import session
from aktis._session.context import SessionContext
from aktis._session.init_arguments import check_namespace
from aktis.testing._decorating import Decorating


def local(
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    namespace: str | None = None,
) -> Decorating[SessionContext]:
    """Runs everything in this process: tasks, actors, functions of datasets. For tests and debuggers.

    Breakpoints stop, coverage counts, what a test has patched is what functions see, and what they print is the test's output.
    Values are copied from call to call and exceptions come wrapped, as between processes; functions, classes and mocks
    (``unittest.mock``) are not copied. A session that this process has already waits until the end. Also a decorator of ordinary functions.

    A task runs within ``.remote()``, on the calling thread, and so do methods of actors that run one at a time; a function of a
    dataset runs on the thread that takes the rows. Async actors have an event loop, and those with ``max_concurrency`` threads. The
    page ``docs/data/testing.md`` says what is different from a session with workers.

    Args:
        num_cpus: how many CPUs tasks and datasets may ask for; by default as many as there are.
        num_gpus: how many GPUs; by default none. They need not be there.
        resources: quantities of resources of your own.
        namespace: in which names of actors are unique.

    Returns:
        A context manager; its value says what :func:`aktis.init` would.

    Raises:
        RuntimeError: this is a task or an actor, or within another ``local()``.
        TypeError: ``resources`` is no dict; or it decorates an async function or a generator, which runs when its call has returned.
        ValueError: a quantity is negative.

    Example:
        >>> import aktis, aktis.testing
        >>> seen = []
        >>> @aktis.remote
        ... def double(x):
        ...     seen.append(x)
        ...     return 2 * x
        >>> with aktis.testing.local():
        ...     aktis.get(double.remote(21))
        42
        >>> seen
        [21]
    """
    return Decorating("local()", functools.partial(_within, num_cpus, num_gpus, resources, namespace))


@contextmanager
def _within(
    num_cpus: float | None, num_gpus: float | None, resources: Mapping[str, float] | None, namespace: str | None
) -> Iterator[SessionContext]:
    from .runtime import LocalRuntime

    if session.is_worker:
        raise RuntimeError("local() begins a session in the process of a test, and this is a task or an actor")
    if session.local() is not None:
        raise RuntimeError("this is within an aktis.testing.local() already: leave the inner one out")
    check_namespace(namespace)
    runtime = LocalRuntime(_totals(num_cpus, num_gpus, resources), namespace or session._new_namespace())
    runtime.begin()
    try:
        yield SessionContext(runtime.context())
    finally:
        runtime.shutdown()


def _totals(num_cpus: float | None, num_gpus: float | None, resources: Mapping[str, float] | None) -> dict[str, float]:
    if resources is not None and not isinstance(resources, Mapping):
        raise TypeError(f"local(): resources is a dict of quantities, as {{'licence': 1}}, not {resources!r:.60}")
    cpus = os.cpu_count() or 1 if num_cpus is None else num_cpus
    totals = {**(resources or {}), "CPU": cpus, "GPU": num_gpus or 0}
    for name, amount in totals.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
            raise ValueError(f"local(): the amount of {name} must be a number of at least 0, not {amount!r}")
    return {name: float(amount) for name, amount in totals.items() if amount or name == "CPU"}
