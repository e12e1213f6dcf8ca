"""Panics of the native module as ordinary exceptions.

PyO3 raises a panic as a ``PanicException``, which is no ``Exception``: it passes by ``except Exception``, and PyO3 panics anew
where native code meets it on its way through Python. Neither is of use to somebody whose job runs on. So what PyO3 makes is
of another class, below a :class:`~aktis.exceptions.RuntimeSystemError`; for all functions of the module, because all panics
become Python's by way of this one type.
"""

from __future__ import annotations

import functools

# As type checkers know it: this is imported before the zygote is started, and `typing` is time that every session would wait.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ADVICE = (
    "This is a defect of Aktis: please report it, with the line about the panic on standard error. What was called has "
    "not been done; the session goes on, and aktis.shutdown() and aktis.init() begin another one should it not"
)


def adopt(panic_exception: Any) -> None:
    """Called by the native module when it is loaded, with the type that PyO3 raises."""

    def make(_kind: type, *arguments: Any) -> BaseException:
        kind = _class_below(panic_exception)
        text = arguments[0] if arguments else "no message"
        return BaseException.__new__(kind, text)

    panic_exception.__new__ = make


@functools.cache
def _class_below(panic_exception: Any) -> type[BaseException]:
    # Only now: nobody needs it before the first panic.
    from ..exceptions import RuntimeSystemError

    class PanicError(RuntimeSystemError, panic_exception):  # type: ignore[misc]
        """The native module has panicked."""

        def __str__(self) -> str:
            return f"the native module panicked: {self.args[0]}. {_ADVICE}"

        def __reduce__(self) -> Any:
            # Where it goes the native module may not have panicked yet.
            return RuntimeSystemError, (str(self),)

    PanicError.__module__, PanicError.__qualname__ = RuntimeSystemError.__module__, "PanicError"
    return PanicError
