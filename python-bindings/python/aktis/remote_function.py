"""Functions that run as tasks."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from . import _session
from ._definition import Definition, Payload
from ._options import TASK_OPTIONS, check_options, native_task_options
from ._signature import checked, parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Variants made by ``options()`` that are kept for the next time.
_MAX_VARIANTS = 64


class RemoteFunction:
    """A function with options; :meth:`remote` runs it in a worker. Made by :func:`aktis.remote`.

    >>> import aktis
    >>> @aktis.remote
    ... def double(x):
    ...     return 2 * x
    >>> aktis.get(double.remote(21))
    42
    >>> double
    RemoteFunction(double)
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]):
        check_options("task", TASK_OPTIONS, options)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(
                f"'async def {function.__name__}' cannot be a remote function: make it a plain function, which may call "
                "asyncio.run(), or a method of an actor"
            )
        self._set_up(function, options, Definition(function))

    def _set_up(self, function: Callable[..., Any], options: dict[str, Any], definition: Definition) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._options = options
        self._definition = definition
        self._variants: dict[Any, RemoteFunction] = {}

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function as a task, and returns at once.

        A reference among the arguments arrives as its value; inside of containers references stay references.

        Returns:
            One :class:`~aktis.ObjectRef`; a list of ``num_returns`` of them; ``None`` if ``num_returns=0``; an
            :class:`~aktis.ObjectRefGenerator` for a generator function.

        Raises:
            TypeError: the arguments do not fit the function, or one of them cannot be pickled.
        """
        self._bind()
        return self.remote(*args, **kwargs)

    def _bind(self) -> None:
        """Puts the native submission in place of :meth:`remote`, for this session."""
        _session.ensure_connected()
        from ._aktis import TaskTemplate

        function_id, captured = self._definition.export(self)
        is_generator = inspect.isgeneratorfunction(self._function)
        name = getattr(self._function, "__name__", type(self._function).__name__)
        template = TaskTemplate(function_id, name, native_task_options(self._options, is_generator=is_generator))
        call = functools.partial(template.remote, *captured) if captured else template.remote
        self.__dict__["remote"] = checked(call, name, parameters_of(self._function))
        _session.bind(self)

    def _unbind(self) -> None:
        self.__dict__.pop("remote", None)

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options.

        Args:
            num_cpus: CPUs it needs (1).
            num_gpus: GPUs it needs (0): a fraction of one, or a whole number. Its process sees only these.
            gpu_memory: bytes of GPU memory it needs.
            memory: bytes of memory it needs.
            resources: quantities of custom resources.
            num_returns: how many references a call gives, or ``"streaming"``.
            max_retries: how often it is tried again when its process or node dies (3); -1 is without limit.
            retry_exceptions: also retry when it raises: ``True``, or a list of exception types.
            max_calls: calls after which the process ends (0 is never; with GPUs 1).
            name: shown instead of the function's name.
            scheduling_strategy: ``"DEFAULT"``, ``"SPREAD"`` or a
                :class:`~aktis.util.scheduling_strategies.NodeAffinitySchedulingStrategy`.

        >>> import aktis
        >>> @aktis.remote
        ... def pair():
        ...     return 1, 2
        >>> first, second = pair.options(num_returns=2).remote()
        >>> aktis.get(second)
        2
        """
        try:
            key = tuple(options.items())
            known = self._variants.get(key)
        except TypeError:  # a list or dictionary among the options
            return self._with(options)
        if known is None:
            known = self._with(options)
            if len(self._variants) < _MAX_VARIANTS:
                self._variants[key] = known
        return known

    def _with(self, options: dict[str, Any]) -> RemoteFunction:
        check_options("task", TASK_OPTIONS, options)
        variant = RemoteFunction.__new__(RemoteFunction)
        variant._set_up(self._function, {**self._options, **options}, self._definition)
        return variant

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        name = self._function.__name__
        raise TypeError(
            f"a remote function cannot be called directly: instead of {name}(), use {name}.remote() (or {name}._function() "
            "to run it in this process)"
        )

    def __repr__(self) -> str:
        return f"RemoteFunction({getattr(self, '__qualname__', '?')})"

    def __reduce__(self) -> Any:
        return _restore, (self._function, self._options)

    @classmethod
    def _unfinished(cls, options: dict[str, Any]) -> RemoteFunction:
        """An instance that :meth:`_adopt` completes: stands for itself while its definition is being loaded."""
        unfinished = cls.__new__(cls)
        unfinished._options = options
        return unfinished

    def _adopt(self, function: Callable[..., Any], payload: Payload) -> None:
        self._set_up(function, self._options, Definition(function, payload))


def _restore(function: Callable[..., Any], options: dict[str, Any]) -> RemoteFunction:
    restored = RemoteFunction.__new__(RemoteFunction)
    restored._set_up(function, options, Definition(function))
    return restored
