"""What can go wrong, as exceptions.

The names of Aktis come first; each has its name in Ray beside it (``RayError is AktisError``), so that the ``except``
clauses of an existing script mean the same.

An exception raised by a task arrives at its caller as two things at once, the original type and a :class:`TaskError`:

>>> from aktis import exceptions
>>> error = exceptions.TaskError("load() failed", cause=FileNotFoundError(2, "No such file", "a.txt")).as_cause()
>>> isinstance(error, FileNotFoundError), isinstance(error, exceptions.TaskError)
(True, True)
>>> error.filename
'a.txt'

```text
 AktisError (RayError)
 ├── TaskError (RayTaskError)            the task raised; also an instance of what it raised
 ├── WorkerCrashedError                  the task's process ended
 ├── NodeDiedError
 ├── OutOfMemoryError
 ├── ActorError (RayActorError)
 │   ├── ActorDiedError                  for good
 │   └── ActorUnavailableError           perhaps only for now
 ├── ObjectLostError
 │   ├── OwnerDiedError
 │   └── ObjectReconstructionFailedError
 ├── ObjectUnreadableError               for now
 ├── ObjectStoreFullError, OutOfDiskError
 ├── GetTimeoutError                     also a TimeoutError
 ├── TaskCancelledError
 ├── TaskUnschedulableError, ActorUnschedulableError
 ├── PendingCallsLimitExceeded
 ├── RuntimeEnvSetupError
 ├── ActorAlreadyExistsError, ActorHandleNotFoundError    also ValueErrors
 ├── InvalidArgumentError                also a ValueError
 ├── NotConnectedError                   also a RuntimeError
 ├── SerializationError                  also a TypeError
 └── RuntimeSystemError (RaySystemError)       a defect of Aktis or a broken peer
```
"""

from __future__ import annotations

from ._values.dual_exception import dual_exception

# As type checkers know it: every session waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class AktisError(Exception):
    """The root of everything the runtime raises.

    Catch it to tell errors of the runtime from those of user code; a :class:`TaskError` is both.
    """


class TaskError(AktisError):
    """A task or a method of an actor raised an exception.

    ``get`` raises the result of :meth:`as_cause`: an exception that is also of the type the task raised.

    Attributes:
        cause: the original exception. One that cannot be rebuilt here is of its type and has its arguments and attributes,
            as far as they can travel; an :class:`UnserializableException` stands for one of which not even the type can.
        traceback_text: where it was raised, as printed by the worker.
    """

    def __init__(self, traceback_text: str, cause: BaseException | None = None):
        super().__init__(traceback_text)
        self.traceback_text = traceback_text
        self.cause = cause

    def __str__(self) -> str:
        return self.traceback_text

    def __reduce__(self) -> Any:
        return type(self), (self.traceback_text, self.cause)

    def as_cause(self) -> TaskError:
        """This error as an instance of its cause's type too, where Python allows such a type."""
        return dual_exception(TaskError, self)

    #: Ray's name of :meth:`as_cause`.
    as_instanceof_cause = as_cause


class WorkerCrashedError(AktisError):
    """The process that ran the task ended: ``os._exit``, a signal, a crash in native code.

    The task was tried again ``max_retries`` times (3) before. The message names the signal and the file with the last output of
    the process; ``faulthandler.enable()`` in the task shows where native code crashed.
    """


class NodeDiedError(AktisError):
    """The node that ran the task is gone.

    The task was tried again ``max_retries`` times before; with more of them it can outlive more nodes. ``aktis status`` says when
    and why a node was lost.
    """


class OutOfMemoryError(AktisError):
    """The worker was ended because its node ran out of memory.

    Give tasks what they need, ``memory=`` in bytes, so that fewer of them run side by side, or make their inputs smaller.
    """


class ActorError(AktisError):
    """A call did not reach its actor, or the actor ended before it answered.

    Attributes:
        actor_id: of the actor, in hexadecimal; ``None`` if the message does not name it.
    """

    @property
    def actor_id(self) -> str | None:
        """Of the actor, in hexadecimal; ``None`` if the message does not name it."""
        import re

        named = re.search(r"\(([0-9a-f]{32})\)", str(self))
        return named.group(1) if named else None


class ActorDiedError(ActorError):
    """The actor is dead for good; the message says of what.

    When its constructor raised, ``__cause__`` is what it raised, as ``get`` of a task would raise it.
    """

    @property
    def actor_init_failed(self) -> bool:
        """Whether it died because its constructor raised."""
        return isinstance(self.__cause__, TaskError)

    @property
    def error_msg(self) -> str:
        """The message."""
        return str(self)

    def __reduce__(self) -> Any:
        return _with_cause, (type(self), self.args, self.__cause__)


def _with_cause(kind: type[AktisError], arguments: tuple[Any, ...], cause: BaseException | None) -> AktisError:
    error = kind(*arguments)
    error.__cause__ = cause
    return error


class ActorUnavailableError(ActorError):
    """The actor cannot be reached now. It may come back.

    The call can be tried again, if it does no harm to run it twice, because it may have run. ``max_task_retries`` of the actor
    does that by itself.
    """


class ObjectLostError(AktisError):
    """No copy of the object is left, and it cannot be computed again.

    That is so for values of ``put`` and results of actors, which nothing can make anew: make them in a task, or keep what they
    were made of.
    """


class OwnerDiedError(ObjectLostError):
    """The process that made the reference is gone, and the object with it.

    An object belongs to the process that called ``put`` or ``remote()``. Call them in the driver or in an actor that lives long
    enough, and pass the reference on from there.
    """


class ObjectReconstructionFailedError(ObjectLostError):
    """A lost object could not be computed again; the message names the limit or the missing lineage.

    More ``max_retries`` of the task, or ``AKTIS_LINEAGE_BYTES``, move the limit.
    """


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched from another node in time.

    Known to scripts for Ray. Aktis raises :class:`ObjectLostError` when the node is gone, and waits as long as it is not.
    """


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand. Known to scripts for Ray; Aktis frees what nobody refers to, and never raises it."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted although a reference was left. Known to scripts for Ray; Aktis never raises it."""


class ObjectUnreadableError(AktisError):
    """The object is there, and its bytes cannot be read now: ``get`` can be called again.

    It lies on a disk, and the system does not give it: the disk does not answer, or the process, its node, or the node that has it, may
    not open one file more (``ulimit -n``). The message names the file and the cause.
    """


class ObjectStoreFullError(AktisError):
    """The object store has no room left, and neither has the disk that it spills to; the message names the sizes.

    Delete references and arrays that are no longer needed, make values smaller, or give it more: ``init(object_store_memory=...)``, in
    bytes, or a disk with more room (``AKTIS_SPILL_DIR``, ``AKTIS_SPILL_LIMIT_BYTES``).
    """


class OutOfDiskError(AktisError):
    """The disk that holds spilled objects is full. Make room, or name another folder with ``AKTIS_SPILL_DIR``."""


class GetTimeoutError(AktisError, TimeoutError):
    """``get`` ended at its timeout. The task itself goes on: ``get`` can be called again, or :func:`aktis.cancel`."""


class TaskCancelledError(AktisError):
    """The task was cancelled. Whoever called :func:`aktis.cancel` meant it; the task is not tried again."""


class TaskUnschedulableError(AktisError):
    """No node can ever run the task; the message names what is missing.

    Ask for less, or start a node that has it; ``aktis.init(num_gpus=1)`` pretends a GPU. ``init(infeasible="wait")`` waits for
    such a node instead.
    """


class ActorUnschedulableError(AktisError):
    """No node can ever host the actor; the message names what is missing.

    Ask for less, or start a node that has it; ``aktis.init(num_gpus=1)`` pretends a GPU. ``init(infeasible="wait")`` waits for
    such a node instead.
    """


class PendingCallsLimitExceeded(AktisError):
    """More calls wait for the actor than its ``max_pending_calls`` allows. Wait for some of the results, then call again."""


class RuntimeEnvSetupError(AktisError):
    """The environment asked for with ``runtime_env`` could not be set up. The message says which part, and why."""


class ActorAlreadyExistsError(ValueError, AktisError):
    """The actor's name is taken.

    ``get_if_exists=True`` returns the actor that has it, :func:`aktis.kill` frees it, another ``namespace`` has names of its own.
    """


class ActorHandleNotFoundError(ValueError, AktisError):
    """The actor of this handle is unknown.

    It belongs to a session that is over, or was forgotten long after its death: make a new one.
    """


class InvalidArgumentError(ValueError, AktisError):
    """An argument makes no sense. The message names it, and what it may be."""


class NotConnectedError(RuntimeError, AktisError):
    """There is no session: it is over, or ``init`` was never called in this process.

    References and handles end with their session: call ``init`` and make them anew.
    """


class SerializationError(TypeError, AktisError):
    """A value could not be serialised or read back; the message names it.

    Make it where it is used, or pass what it is made of.
    """


class RuntimeSystemError(AktisError):
    """A defect in Aktis itself, or a broken peer. Never the user's mistake: please report it."""


class LocalRayletDiedError(AktisError):
    """The raylet of this node is gone.

    Known to scripts for Ray. Aktis tells it as a :class:`NodeDiedError` or :class:`NotConnectedError`.
    """


class AsyncioActorExit(AktisError):
    """What ends an async actor in Ray. Aktis itself never raises it: call :func:`aktis.actor.exit_actor`."""


class UnserializableException(AktisError):
    """The ``cause`` of a :class:`TaskError` whose original exception could not be carried, not even its type.

    The text of its traceback is in the error. Exceptions of a module that this process can import arrive as they are.
    """


RayError = AktisError
RayTaskError = TaskError
RayActorError = ActorError
RaySystemError = RuntimeSystemError

_CLASS_OF_CODE: dict[int, type[AktisError]] = {
    1: RuntimeSystemError,
    2: TaskError,
    3: WorkerCrashedError,
    4: ActorDiedError,
    5: ActorUnavailableError,
    6: NodeDiedError,
    7: ObjectLostError,
    8: ObjectReconstructionFailedError,
    9: OwnerDiedError,
    10: ObjectStoreFullError,
    11: OutOfDiskError,
    12: GetTimeoutError,
    13: TaskCancelledError,
    14: TaskUnschedulableError,
    15: PendingCallsLimitExceeded,
    16: ActorHandleNotFoundError,
    17: ActorAlreadyExistsError,
    18: InvalidArgumentError,
    19: NotConnectedError,
    20: SerializationError,
    21: RuntimeEnvSetupError,
    22: OutOfMemoryError,
    24: ObjectUnreadableError,
}
_APPLICATION, _ACTOR_DIED, _UNSCHEDULABLE, _OS = 2, 4, 14, 23


def _from_failure(code: int, message: str, exception_bytes: bytes, traceback_text: str) -> BaseException:
    """The exception for a failure that came from another process. Called by the native module."""
    if code == _APPLICATION:
        return _raised(message, exception_bytes, traceback_text)
    if code == _OS:
        # As if the function had raised it: of the class that goes with the number, PermissionError for example.
        return TaskError(message, OSError(int(exception_bytes or b"5"), message)).as_cause()
    if code == _ACTOR_DIED and traceback_text:
        # The constructor raised. As an error of the actor, not of the type that was raised: the next call fails the same way.
        died = ActorDiedError(f"{message}\n\n{traceback_text}")
        died.__cause__ = _raised(message, exception_bytes, traceback_text)
        return died
    if code == _UNSCHEDULABLE:
        from ._messages.way_out import of_shortage

        message += of_shortage(message)
    return _CLASS_OF_CODE.get(code, RuntimeSystemError)(message)


def _raised(message: str, exception_bytes: bytes, traceback_text: str) -> TaskError:
    from ._values.carried import unpack

    cause = unpack(exception_bytes)
    if cause is None and (exception_bytes or traceback_text):
        cause = UnserializableException(message)
    # Without either it is Aktis itself that ended the work, for what the message says.
    return TaskError(traceback_text or message, cause).as_cause()


def _timeout(missing: int, wanted: int, seconds: float, waits_for: str | None = None) -> GetTimeoutError:
    """The exception for a ``get`` that ended at its timeout. Called by the native module."""
    what = "the object is" if wanted == 1 else f"{missing} of {wanted} objects are"
    reason = "" if waits_for is None else f"; {waits_for}" if missing == 1 else f"; of the first, {waits_for}"
    return GetTimeoutError(f"get() timed out after {seconds:g} s: {what} not ready yet{reason}")
