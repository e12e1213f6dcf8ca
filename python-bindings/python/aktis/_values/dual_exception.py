"""An exception that is of two types at once: what a task raised, and a task error.

The class is made for the occasion, from the two classes. Its attributes are those of the original exception, its text
is the traceback of the worker.
"""

from __future__ import annotations

import types

# As type checkers know it: every session waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..exceptions import TaskError

#: How native types keep their fields. By the types themselves, because ``inspect`` would be imported at each `init` for it.
_NATIVE_FIELDS = (types.GetSetDescriptorType, types.MemberDescriptorType)

#: Raised in a driver these would end it, or the loop they appear in, without a word; they stay plain task errors.
_NEVER_DUAL = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
#: The descriptor, which checkers take for what it gives. It passes by what a class may call ``args`` itself.
_ARGUMENTS: Any = BaseException.args


def dual_exception(task_error: type[TaskError], error: TaskError) -> TaskError:
    """``error`` as an instance of its cause's type too; ``error`` itself where no such type can be made."""
    cause = error.cause
    if cause is None or isinstance(cause, (*_NEVER_DUAL, task_error)):
        return error
    try:
        kind = _group_type(task_error, cause) if isinstance(cause, BaseExceptionGroup) else _type(task_error, cause)
        dual = kind(error.traceback_text, cause)
        if notes := getattr(cause, "__notes__", None):
            dual.__notes__ = list(notes)
        return dual  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001
        # The user's class cannot be subclassed, or its attributes cannot be set. The cause stays reachable.
        return error


def _type(task_error: type[TaskError], cause: BaseException) -> type[Any]:
    def init(self: Any, traceback_text: str, cause: BaseException) -> None:
        self.traceback_text = traceback_text
        self.cause = cause
        _ARGUMENTS.__set__(self, (cause,))
        _copy_native_fields(cause, self)

    members = {"__init__": init, "__str__": _text, "__getattr__": _attribute_of_cause, "__reduce__": _reduce}
    return _make_type(task_error, cause, members)


def _group_type(task_error: type[TaskError], cause: BaseExceptionGroup[Any]) -> type[Any]:
    def new(cls: Any, _traceback_text: str, cause: BaseExceptionGroup[Any]) -> Any:
        return BaseExceptionGroup.__new__(cls, cause.message, cause.exceptions)

    def init(self: Any, traceback_text: str, cause: BaseException) -> None:
        self.traceback_text = traceback_text
        self.cause = cause

    members = {
        "__new__": new, "__init__": init, "__str__": _text, "__getattr__": _attribute_of_cause, "__reduce__": _reduce,
    }  # fmt: skip
    return _make_type(task_error, cause, members)


def _make_type(task_error: type[TaskError], cause: BaseException, members: dict[str, Any]) -> type[Any]:
    original = type(cause)
    # Named as in Ray, because scripts and log filters look for it.
    name = f"RayTaskError({original.__name__})"
    return type(name, (task_error, original), {**members, "__module__": task_error.__module__, "__qualname__": name})


def _text(self: Any) -> str:
    return str(self.__dict__["traceback_text"])


def _attribute_of_cause(self: Any, name: str) -> Any:
    if name.startswith("__") or "cause" not in self.__dict__:
        raise AttributeError(name)
    return getattr(self.__dict__["cause"], name)


def _reduce(self: Any) -> Any:
    return _rebuild, (self.traceback_text, self.cause)


def _rebuild(traceback_text: str, cause: BaseException) -> TaskError:
    from ..exceptions import TaskError

    return TaskError(traceback_text, cause).as_cause()


def _copy_native_fields(source: BaseException, target: BaseException) -> None:
    """Copies what native exception types keep outside ``__dict__``, for example ``OSError.errno``."""
    for kind in type(source).__mro__:
        if kind in (Exception, BaseException, object):
            continue
        for name, field in vars(kind).items():
            if name.startswith("__") or not isinstance(field, _NATIVE_FIELDS):
                continue
            try:
                setattr(target, name, getattr(source, name))
            except (AttributeError, TypeError):
                continue
