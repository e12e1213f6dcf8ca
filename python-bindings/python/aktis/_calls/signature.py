"""Checks the arguments of a call where it is made, not where it runs.

Whether arguments fit depends only on how many there are and on the names of those given by keyword. So each shape of a
call is checked once, and calls of a known shape cost one look into a set.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Name, kind and whether there is a default, for each parameter: a signature that can be pickled.
Parameters = tuple[tuple[str, int, bool], ...]

#: Shapes remembered per function. More than that means keywords made up as they go: those are checked each time.
_MAX_SHAPES = 256

#: The kinds of parameters by their numbers.
_KINDS = {
    int(kind): kind
    for kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    )
}


def parameters_of(function: Callable[..., Any], *, skip_first: bool = False) -> Parameters | None:
    """The parameters of a function; ``None`` if they cannot be found out, as for some native functions.

    Args:
        skip_first: leave out ``self``.
    """
    try:
        found = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None
    if skip_first and found and found[0].kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD:
        del found[0]
    return tuple((each.name, int(each.kind), each.default is not inspect.Parameter.empty) for each in found)


def checked(call: Callable[..., Any], name: str, parameters: Parameters | None) -> Callable[..., Any]:
    """``call`` behind a check of its arguments.

    >>> load = checked(print, "load", parameters_of(lambda path, *, mode="r": None))
    >>> load("a.txt")
    a.txt
    >>> load("a.txt", mod="w")
    Traceback (most recent call last):
    ...
    TypeError: load(): got an unexpected keyword argument 'mod'; it takes (path, *, mode=...)
    """
    if parameters is None or _takes_anything(parameters):
        return call
    known: set[Any] = set()

    def remote(*args: Any, **kwargs: Any) -> Any:
        shape = (len(args), *kwargs) if kwargs else len(args)
        if shape not in known:
            _check(name, parameters, args, kwargs)
            if len(known) < _MAX_SHAPES:
                known.add(shape)
        return call(*args, **kwargs)

    return remote


def check(name: str, parameters: Parameters | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises ``TypeError`` unless the arguments fit the parameters."""
    if parameters is not None:
        _check(name, parameters, args, kwargs)


def _check(name: str, parameters: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signature = inspect.Signature([
        inspect.Parameter(each, _KINDS[kind], default=None if has_default else inspect.Parameter.empty)
        for each, kind, has_default in parameters
    ])  # fmt: skip
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}(): {error}; it takes {_text(parameters)}") from None


def _text(parameters: Parameters) -> str:
    """The parameters as they stand in a definition, without values of defaults: those may be long.

    >>> _text(parameters_of(lambda path, *more, mode="r", **others: None))
    '(path, *more, mode=..., **others)'
    """
    signature = inspect.Signature([
        inspect.Parameter(each, _KINDS[kind], default=_Left() if has_default else inspect.Parameter.empty)
        for each, kind, has_default in parameters
    ])  # fmt: skip
    return str(signature)


class _Left:
    def __repr__(self) -> str:
        return "..."


def _takes_anything(parameters: Parameters) -> bool:
    kinds = [kind for _, kind, _ in parameters]
    return kinds == [int(inspect.Parameter.VAR_POSITIONAL), int(inspect.Parameter.VAR_KEYWORD)]
