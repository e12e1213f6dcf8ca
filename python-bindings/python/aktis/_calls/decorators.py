"""The decorators ``remote`` and ``method``."""

# Forms of a call overlap where a type is Any, or a number: the first one that fits is taken.
# mypy: disable-error-code="overload-overlap"
# pyright: reportOverlappingOverload=false

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, overload

from ..remote_function import RemoteFunction
from .options import METHOD_OPTIONS, check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, ParamSpec, TypeVar, Unpack

    from .._aktis import ObjectRef, ObjectRefGenerator
    from .._typed import Anything, MethodOptions, RemoteDecorator, RemoteOptions, TaskDecorator, TaskOptions
    from ..actor import ActorClass

    P = ParamSpec("P")
    T = TypeVar("T")
    Class = TypeVar("Class", bound=type[Any])


# Checkers take the first form that fits: a class, a function without annotation, a generator, any other function.
@overload
def remote(target: Class, /) -> ActorClass[Class]: ...
@overload
def remote(target: Callable[P, Anything], /) -> RemoteFunction[Callable[P, Any], ObjectRef[Any]]: ...
@overload
def remote(target: Callable[P, Iterator[T]], /) -> RemoteFunction[Callable[P, Any], ObjectRefGenerator[T]]: ...
@overload
def remote(target: Callable[P, T], /) -> RemoteFunction[Callable[P, Any], ObjectRef[T]]: ...
@overload
def remote(*, num_returns: Literal[0], **options: Unpack[TaskOptions]) -> TaskDecorator[None]: ...
@overload
def remote(*, num_returns: Literal[1], **options: Unpack[TaskOptions]) -> TaskDecorator[ObjectRef[Any]]: ...
@overload
def remote(
    *, num_returns: Literal["streaming"], **options: Unpack[TaskOptions]
) -> TaskDecorator[ObjectRefGenerator[Any]]: ...
@overload
def remote(*, num_returns: int, **options: Unpack[TaskOptions]) -> TaskDecorator[list[ObjectRef[Any]]]: ...
@overload
def remote(*, num_returns: None = None, **options: Unpack[RemoteOptions]) -> RemoteDecorator: ...
def remote(*args: Any, **options: Any) -> Any:
    """Makes a function run as tasks, or a class into actors.

    As a decorator, with or without options (see :meth:`RemoteFunction.options <aktis.remote_function.RemoteFunction.options>`
    and :meth:`ActorClass.options <aktis.actor.ActorClass.options>`), or called with the function or class.

    Args:
        *args: the function or class, if it is called with it.
        **options: for all its tasks or actors.

    Returns:
        A :class:`~aktis.remote_function.RemoteFunction` or :class:`~aktis.ActorClass`, whose ``remote()`` gives references or a
        handle; with options, a decorator that does.

    Raises:
        TypeError: what is given is no function and no class.
        ValueError: an option is not known (the nearest is named), has an impossible value, or is one of Ray's that is not
            there, with what to do instead.

    >>> import aktis
    >>> @aktis.remote(num_cpus=2)
    ... def heavy(x):
    ...     return x ** 2
    >>> aktis.get(heavy.remote(4))
    16
    >>> aktis.get(aktis.remote(lambda: "plain").remote())
    'plain'
    """
    if args and options:
        raise TypeError("remote() takes options by keyword only: use @remote(num_cpus=...) above the definition")
    if not args:
        if not options:
            raise TypeError("use @remote without brackets, or with at least one option")
        # Wrong options are reported where they are written, not where they are used.
        _check_any(options)
        return lambda target: _wrap(target, options)
    if len(args) != 1:
        raise TypeError(f"remote() takes one function or class: got {len(args)}")
    return _wrap(args[0], {})


def _check_any(options: dict[str, Any]) -> None:
    from .options import ACTOR_OPTIONS, TASK_OPTIONS

    check_options("task or actor", TASK_OPTIONS | ACTOR_OPTIONS, options)


def _wrap(target: Any, options: dict[str, Any]) -> RemoteFunction[Any, Any] | ActorClass[Any]:
    if isinstance(target, RemoteFunction) or _is_actor_class(target):
        raise TypeError(f"{target!r} is remote already: use .options() to change its options")
    if isinstance(target, type):
        # Imported here, because scripts without actors need nothing of it.
        from ..actor import ActorClass

        return ActorClass(target, options)
    if callable(target) and not isinstance(target, (staticmethod, classmethod)):
        return RemoteFunction(target, options)
    raise TypeError(f"remote() takes a function or a class: got {target!r} of type {type(target).__name__}")


def _is_actor_class(target: Any) -> bool:
    module = sys.modules.get("aktis.actor")
    return module is not None and isinstance(target, module.ActorClass)


def method(**options: Unpack[MethodOptions]) -> Callable[[T], T]:
    """Gives options to a method of an actor class.

    Args:
        **options: as for :meth:`ActorMethod.options <aktis.actor.ActorMethod.options>`.

    Returns:
        A decorator for the method. Callers can still give it other options.

    Raises:
        TypeError: there is no option.
        ValueError: an option is not known (the nearest is named), or has an impossible value.

    >>> import aktis
    >>> @aktis.remote
    ... class Splitter:
    ...     @aktis.method(num_returns=2)
    ...     def halves(self, x):
    ...         return x // 2, x - x // 2
    >>> aktis.get(Splitter.remote().halves.remote(5))
    [2, 3]
    """
    if not options:
        raise TypeError("method() needs at least one option: use @method(num_returns=2) above a method")
    check_options("method", METHOD_OPTIONS, options)
    from .methods import OPTIONS_ATTRIBUTE

    def mark(function: Any) -> Any:
        setattr(function, OPTIONS_ATTRIBUTE, options)
        return function

    return mark
