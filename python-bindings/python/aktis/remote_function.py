"""Functions that run as tasks."""

# Forms of a call overlap where a type is Any, or a number: the first one that fits is taken.
# mypy: disable-error-code="overload-overlap"
# pyright: reportOverlappingOverload=false

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ._calls.options import TASK_OPTIONS, check_options, native_task_options
from ._calls.signature import checked, parameters_of
from ._session import session
from ._values.definition import Definition, Payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, Literal, ParamSpec, Unpack

    from ._aktis import ObjectRef, ObjectRefGenerator
    from ._typed import TaskOptions

    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    #: The parameters, or what is left of them after the first ones.
    Q = ParamSpec("Q")

#: The function, as ``Callable[[int], str]``: tells checkers what :meth:`RemoteFunction.remote` takes.
Function_co = TypeVar("Function_co", covariant=True)
#: What a call gives: references.
Out_co = TypeVar("Out_co", covariant=True)

#: Variants made by ``options()`` that are kept for the next time.
_MAX_VARIANTS = 64


class RemoteFunction(Generic[Function_co, Out_co]):
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
        functools.update_wrapper(self, function, updated=())  # type: ignore[arg-type]
        self._function = function
        self._options = options
        self._definition = definition
        self._variants: dict[Any, RemoteFunction[Function_co, Any]] = {}

    # A reference may stand for any argument, which Python's types cannot say of all parameters at once. They say it of the first
    # four, and of any number of references that are nothing but references.
    @overload
    def remote(self: RemoteFunction[Callable[Q, Any], Out_co], *args: Q.args, **kwargs: Q.kwargs) -> Out_co: ...
    @overload
    def remote(
        self: RemoteFunction[Callable[Concatenate[A, Q], Any], Out_co],
        _a: A | ObjectRef[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def remote(
        self: RemoteFunction[Callable[Concatenate[A, B, Q], Any], Out_co],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def remote(
        self: RemoteFunction[Callable[Concatenate[A, B, C, Q], Any], Out_co],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        _c: C | ObjectRef[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def remote(
        self: RemoteFunction[Callable[Concatenate[A, B, C, D, Q], Any], Out_co],
        _a: A | ObjectRef[A],
        _b: B | ObjectRef[B],
        _c: C | ObjectRef[C],
        _d: D | ObjectRef[D],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def remote(
        self,
        _a: ObjectRef[Any],
        _b: ObjectRef[Any],
        _c: ObjectRef[Any],
        _d: ObjectRef[Any],
        _e: ObjectRef[Any],
        /,
        *args: ObjectRef[Any],
    ) -> Out_co: ...
    def remote(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy forgets what self is in the forms
        """Runs the function as a task, and returns at once.

        Args:
            *args: for the function. A reference arrives as its value; inside of containers references stay references.
            **kwargs: for the function, by keyword.

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
        session.ensure_connected()
        definition = (session.instead_of(self) if session.instead_of is not None else None) or self._definition
        function_id, captured = definition.export(self)
        is_generator = inspect.isgeneratorfunction(self._function)
        name = getattr(self._function, "__name__", type(self._function).__name__)
        template = session.runtime.TaskTemplate(
            function_id, name, native_task_options(self._options, is_generator=is_generator)
        )
        call = functools.partial(template.remote, *captured) if captured else template.remote
        self.__dict__["remote"] = checked(call, name, parameters_of(self._function))
        session.bind(self)

    def _unbind(self) -> None:
        self.__dict__.pop("remote", None)

    # Numbers that are known have types of their own; 0 and 1 are ints, too.
    @overload
    def options(
        self, *, num_returns: Literal[0], **options: Unpack[TaskOptions]
    ) -> RemoteFunction[Function_co, None]: ...
    @overload
    def options(
        self, *, num_returns: Literal[1], **options: Unpack[TaskOptions]
    ) -> RemoteFunction[Function_co, ObjectRef[Any]]: ...
    @overload
    def options(
        self, *, num_returns: Literal["streaming"], **options: Unpack[TaskOptions]
    ) -> RemoteFunction[Function_co, ObjectRefGenerator[Any]]: ...
    @overload
    def options(
        self, *, num_returns: int, **options: Unpack[TaskOptions]
    ) -> RemoteFunction[Function_co, list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self, *, num_returns: None = None, **options: Unpack[TaskOptions]
    ) -> RemoteFunction[Function_co, Out_co]: ...
    def options(self, **options: Any) -> RemoteFunction[Function_co, Any]:
        """The same function with other options.

        Args:
            num_cpus: CPUs it needs (1).
            num_gpus: GPUs it needs (0): a fraction of one, or a whole number. Its process sees only these.
            gpu_memory: bytes of GPU memory it needs.
            memory: bytes of memory it needs. A process that holds more for itself alone, and more than 32 MiB, is ended, and the error says so.
            resources: quantities of custom resources.
            num_returns: how many references a call gives, or ``"streaming"``.
            max_retries: how often it is tried again when its process or node dies (3); -1 is without limit.
            retry_exceptions: also retry when it raises: ``True``, or a list of exception types.
            max_calls: calls after which the process ends (0 is never; with GPUs 1).
            name: shown instead of the function's name.
            scheduling_strategy: ``"DEFAULT"``, ``"SPREAD"`` or a
                :class:`~aktis.util.scheduling_strategies.NodeAffinitySchedulingStrategy`.

        Returns:
            Another :class:`RemoteFunction`; this one stays as it is.

        Raises:
            ValueError: an option is not known (the nearest is named), has an impossible value, or is one of Ray's that is not
                there, with what to do instead.

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

    def _with(self, options: dict[str, Any]) -> RemoteFunction[Function_co, Any]:
        check_options("task", TASK_OPTIONS, options)
        variant: RemoteFunction[Function_co, Any] = RemoteFunction.__new__(RemoteFunction)
        variant._set_up(self._function, {**self._options, **options}, self._definition)
        return variant

    if not TYPE_CHECKING:  # checkers are to report such a call

        def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
            name = self._function.__name__
            raise TypeError(
                f"a remote function cannot be called directly: instead of {name}(), use {name}.remote() (or "
                f"{name}._function() to run it in this process)"
            )

    def __repr__(self) -> str:
        return f"RemoteFunction({getattr(self, '__qualname__', '?')})"

    def __reduce__(self) -> Any:
        return _restore, (self._function, self._options)

    @classmethod
    def _unfinished(cls, options: dict[str, Any]) -> RemoteFunction[Any, Any]:
        """An instance that :meth:`_adopt` completes: stands for itself while its definition is being loaded."""
        unfinished: RemoteFunction[Any, Any] = cls.__new__(cls)
        unfinished._options = options
        return unfinished

    def _adopt(self, function: Callable[..., Any], payload: Payload) -> None:
        self._set_up(function, self._options, Definition(function, payload))


def _restore(function: Callable[..., Any], options: dict[str, Any]) -> RemoteFunction[Any, Any]:
    restored: RemoteFunction[Any, Any] = RemoteFunction.__new__(RemoteFunction)
    restored._set_up(function, options, Definition(function))
    return restored
