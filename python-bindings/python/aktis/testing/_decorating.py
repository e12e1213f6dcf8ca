"""Context managers that also decorate functions, but for those that would run when it is over."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ContextDecorator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])

_RUN_LATER = (
    ("an async function", inspect.iscoroutinefunction),
    ("a generator", inspect.isgeneratorfunction),
    ("an async generator", inspect.isasyncgenfunction),
)


class Decorating(ContextDecorator, Generic[T]):
    """Enters what ``make`` gives: around a block, and around each call of a function that it decorates."""

    def __init__(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._name = name
        self._make = make
        self._entered: AbstractContextManager[T] | None = None

    def __enter__(self) -> T:
        within = self._make()
        value = within.__enter__()
        self._entered = within
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        within, self._entered = self._entered, None
        if within is not None:
            within.__exit__(kind, error, trace)

    def _recreate_cm(self) -> Self:
        return type(self)(self._name, self._make)

    def __call__(self, func: Function) -> Function:
        for kind, is_one in _RUN_LATER:
            if is_one(func):
                raise TypeError(
                    f"@aktis.testing.{self._name} is over when the function returns, and {func.__name__} is {kind}, which runs later: write "
                    f"`with aktis.testing.{self._name}:` within it"
                )
        return super().__call__(func)
