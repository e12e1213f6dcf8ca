"""The Python half of a worker process: loading definitions, hosting actors, describing failures.

The native module calls these functions from the loop of a worker process; nothing of it runs in a driver.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from .._values.carried import pack, sendable, text_of
from .actor_host import ActorExit, ActorHost, concurrency_groups, host_actor

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "ActorExit",
    "describe_exception",
    "exit_code",
    "is_cancellation",
    "load_definition",
    "make_actor",
    "on_interrupt",
    "set_accelerators",
]

#: The class of the actor that lives in this process.
actor_class: type[Any] | None = None
#: The actor itself.
actor_instance: Any = None


def class_of_this_actor() -> type[Any] | None:
    """The class of the actor whose method calls this; ``None`` elsewhere."""
    from .._session import session

    local = session.local()
    return actor_class if local is None else local.class_of_this_actor()


def load_definition(data: bytes) -> Any:
    """The function or class that a driver exported."""
    from .._values.definition import load

    return load(data)


def set_accelerators(visible_devices: str) -> None:
    """Shows the GPUs of the current lease, and no others, to CUDA: none when the lease has none.

    They are named as the node's own environment names them, in the order in which the node has counted them.
    """
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices


def make_actor(definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any], max_concurrency: int) -> ActorHost:
    """Runs the constructor of an actor; the host says how its methods are to be called.

    ``max_concurrency`` 0 is the default: 1, or 1000 for a class with an async method.
    """
    from .._values.definition import resolve_class
    from . import blocking_get, output

    global actor_class, actor_instance
    cls, args = resolve_class(definition, args)
    actor_class = cls
    blocking_get.watch("sync", runs_several=False)  # the constructor
    output.name_actor(cls)
    host = host_actor(cls, args, kwargs, max_concurrency)
    actor_instance = host.instance
    blocking_get.watch(host.kind, runs_several=host.kind == "threaded" or bool(concurrency_groups(cls)))
    output.name_actor(cls, host.instance)
    return host


def exit_code(error: SystemExit) -> tuple[int, bool]:
    """The status that a process ends with by ``sys.exit``, and whether an actor is not to be started again.

    A text given instead of a number is printed, as Python does.

    >>> exit_code(SystemExit(3)), exit_code(SystemExit()), exit_code(ActorExit(0))
    ((3, False), (0, False), (0, True))
    """
    code = error.code
    if code is None:  # as in Ray, where only the number 0 means an actor's own wish
        return 0, False
    if isinstance(code, int):
        return code & 0xFF, code == 0
    print(code, file=sys.stderr)
    return 1, False


def is_cancellation(error: BaseException) -> bool:
    """Whether the error is how a cancelled task or method ends: its interrupt, or that of what it waited for."""
    from ..exceptions import TaskCancelledError

    # Modules that are not imported cannot have raised.
    kinds = [getattr(sys.modules.get(name), "CancelledError", None) for name in ("asyncio", "concurrent.futures")]
    return isinstance(error, (KeyboardInterrupt, TaskCancelledError, *filter(None, kinds)))


def on_interrupt(signal_number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT: raises ``KeyboardInterrupt`` in the task that was cancelled, and in no other."""
    from .. import _aktis

    is_wanted = _aktis.claim_interrupt()
    if is_wanted is None:
        signal.default_int_handler(signal_number, frame)
    elif is_wanted:
        raise KeyboardInterrupt("cancelled")


def end_forked_child(error: BaseException | None) -> NoReturn:
    """Ends a process that user code forked, and that came back out of it."""
    import traceback

    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        status = int(error is not None)
        if error is not None:
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def describe_exception(error: BaseException, name: str, retry_on: bytes | None) -> tuple[bytes, str, str, bool]:
    """What the caller is told about an exception: pickled, message, traceback, and whether the call may be retried.

    Args:
        error: what the function raised.
        name: of the function or method.
        retry_on: ``None`` never retries; pickled exception types retry on these, none of them (``b""``) on any.

    >>> _, message, text, is_retryable = describe_exception(ValueError("no"), "load", b"")
    >>> message, is_retryable, text.splitlines()[-1]
    ('ValueError: no', True, 'ValueError: no')
    """
    from .._messages.hints import take
    from .._values.traceback import remote_traceback

    known_name, hints = take(error)
    if isinstance(error, ActorExit):
        message = "exit_actor() was called"
    else:
        message = f"{type(error).__qualname__}: {text_of(error)}"
    text = sendable("\n".join([remote_traceback(error, known_name or name), *hints]))
    return _pickled(error), message, text, _is_retryable(error, retry_on)


def _pickled(error: BaseException) -> bytes:
    """The exception, see :mod:`aktis._values.carried`."""
    from ..exceptions import TaskError

    # An error that went through several tasks keeps its first cause, not a chain of wrappers.
    return pack(error.cause if isinstance(error, TaskError) and error.cause is not None else error)


def _is_retryable(error: BaseException, retry_on: bytes | None) -> bool:
    if retry_on is None or not isinstance(error, Exception):
        return False
    return not retry_on or isinstance(error, pickle.loads(retry_on))
