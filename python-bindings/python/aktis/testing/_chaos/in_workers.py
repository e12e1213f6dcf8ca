"""Where workers meet the faults of :func:`aktis.testing.chaos`: around functions of datasets and tasks, and requests to stores.

One look for a file when a function is loaded tells whether there are any.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .faults import Faults

if TYPE_CHECKING:
    from aktis.data._worker import LoadedFunction


class FaultyFunction:
    """A function of a dataset, as the native worker calls it, in a process that may not live long."""

    def __init__(self, loaded: LoadedFunction, faults: Faults):
        self._loaded = loaded
        self._faults = faults
        #: Whether the process ends when the call that began last has given something.
        self._dies_after = False

    def begin(self, batch: Any) -> None:
        """As :meth:`LoadedFunction.begin`."""
        name = self._loaded.name
        number = self._faults.number_of_call()
        self._faults.slow_down(name, number)
        when = self._faults.death_for(number, name, functools.partial(_digest, batch))
        if when == "before":
            self._faults.die()
        self._dies_after = when == "after"
        self._loaded.begin(batch)

    def next_output(self) -> Any:
        """As :meth:`LoadedFunction.next_output`."""
        output = self._loaded.next_output()
        if self._dies_after:
            self._faults.die()
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded, name)


def _digest(batch: Any) -> str:
    return hashlib.blake2b(batch.serialize(), digest_size=12).hexdigest()


class FaultyTask:
    """What a worker runs in the place of a task's function."""

    def __init__(self, function: Callable[..., Any], plan: dict[str, Any], name: str):
        self._function = function
        self._plan = plan
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import aktis

        faults = Faults(self._plan)
        name = self.__name__
        number = faults.number_of_call()
        faults.slow_down(name, number)
        task = aktis.get_runtime_context().get_task_id()
        when = faults.death_for(number, name, lambda: str(task))
        if when == "before":
            faults.die()
        value = self._function(*args, **kwargs)
        # A generator has done nothing yet: it dies as if it had not begun.
        if when == "after":
            if inspect.isgenerator(value):
                next(value, None)
            faults.die()
        return value
