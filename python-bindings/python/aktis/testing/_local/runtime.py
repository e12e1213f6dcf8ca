"""What takes the place of the native module within :func:`aktis.testing.local`: the same functions, for one process.

```text
 .remote(), put, get, wait ──► aktis._session.session.runtime ─┬─ the native module: workers
                                                               └─ LocalRuntime: calls, here and now
```
"""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aktis import _aktis
from aktis._process.blocking_get import _deadlock
from aktis._session import session
from aktis._values.definition import KEPT

from . import carrying, exits
from .actors import Actor, ActorCore
from .calls import UNSCHEDULABLE, Call, current
from .hosts import late
from .long_calls import watched
from .references import Cell, Failure, LocalRef, cell_of, new_task_id, urge, wait_until
from .streams import LocalGenerator

if TYPE_CHECKING:
    from .datasets import LocalExecution, LocalFunction, Questions

#: Memory that a node is said to have, in bytes.
_MEMORY_BYTES = 8 << 30


class LocalRuntime:
    """A session of one process."""

    def __init__(self, totals: dict[str, float], namespace: str):
        self.totals = {"memory": float(_MEMORY_BYTES), "object_store_memory": float(_MEMORY_BYTES), **totals}
        self._namespace = namespace
        self._id = os.urandom(16).hex()
        self._before: Any = None
        self._kept: dict[bytes, Any] = {}
        self._actors: dict[bytes, Actor] = {}
        #: By thread of the engine of datasets: where it asks for functions to be called.
        self.questions_of: dict[int, Questions] = {}
        #: Of executions that somebody may still read.
        self._executions: weakref.WeakSet[LocalExecution] = weakref.WeakSet()
        #: What variables were before they were set here.
        self._environment: dict[str, str | None] = {}
        self.TaskTemplate = functools.partial(TaskTemplate, self)
        self.ActorCore: type[ActorCore] = type("ActorCore", (ActorCore,), {"runtime": self})

    def begin(self) -> None:
        """Serves calls from now on."""
        self._before = session.serve_by(self)
        exits.begin()

    def shutdown(self) -> None:
        """Ends the actors; from now on calls are served as before."""
        if self._before is None:
            return
        try:
            for actor in list(self._actors.values()):
                actor.end_in_order()
        finally:
            # Those that are left when an interrupt comes while one ends.
            for actor in list(self._actors.values()):
                actor.die("its session is over")
            for execution in list(self._executions):
                execution.cancel()
            exits.end()
            self._restore_environment()
            before, self._before = self._before, None
            session.serve_by(before)

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Variables that a worker would have for itself: the process of the test has them until the end."""
        for name, value in variables.items():
            self._environment.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def _restore_environment(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment.clear()

    def is_connected(self) -> bool:
        return True

    # Definitions.

    def keep(self, target: Any) -> bytes:
        """Keeps a function or class instead of sending it; raises if it could not be sent."""
        carrying.check_sendable(target)
        data = KEPT + f"{self._id}:{len(self._kept)}".encode()
        self._kept[data] = target
        return data

    def kept(self, data: bytes) -> Any:
        """What :meth:`keep` was given; ``None``: by another session."""
        return self._kept.get(bytes(data))

    def export(self, data: bytes) -> bytes:
        return data

    # Objects.

    def put(self, value: Any) -> Any:
        if isinstance(value, _aktis.ObjectRef):
            return NotImplemented
        cell = Cell("put()", None)
        cell.give(carrying.carry(value))
        return LocalRef(cell, new_task_id())

    def get(self, refs: Any, timeout: float | None) -> Any:
        is_one = isinstance(refs, _aktis.ObjectRef)
        if not is_one and not (isinstance(refs, list) and all(isinstance(ref, _aktis.ObjectRef) for ref in refs)):
            return NotImplemented
        cells = [cell_of(ref) for ref in ([refs] if is_one else refs)]
        if not self.wait_for(cells, timeout):
            from aktis.exceptions import _timeout

            late_ones = [cell for cell in cells if not cell.is_ready]
            raise _timeout(len(late_ones), len(cells), timeout or 0.0, f"{late_ones[0].name} has not ended")
        values = [cell.value() for cell in cells]
        return values[0] if is_one else values

    def wait(self, refs: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]] | None:
        if not all(isinstance(ref, _aktis.ObjectRef) for ref in refs) or len(set(refs)) != len(refs):
            return None
        cells = [cell_of(ref) for ref in refs]
        for cell in cells:
            if sum(each.is_ready for each in cells) >= num_returns:
                break
            self._refuse_own(cell)
            urge(cell)
        names = ", ".join({cell.name for cell in cells if not cell.is_ready})
        wait_until(
            lambda: sum(cell.is_ready for cell in cells) >= num_returns, timeout, lambda: f"wait() waits for {names}"
        )
        ready = [ref for ref, cell in zip(refs, cells, strict=True) if cell.is_ready][:num_returns]
        chosen = set(ready)
        return ready, [ref for ref in refs if ref not in chosen]

    def wait_for(self, cells: list[Cell], timeout: float | None) -> bool:
        """Waits until all are ready; ``False``: not in time."""
        end = None if timeout is None else time.monotonic() + timeout
        for cell in cells:
            if not cell.is_ready:
                self._refuse_own(cell)
                urge(cell)
            left = None if end is None else max(0.0, end - time.monotonic())
            if not wait_until(lambda cell=cell: cell.is_ready, left, lambda cell=cell: f"get() waits for {cell.name}"):  # type: ignore[misc]
                return False
        return True

    @staticmethod
    def _refuse_own(cell: Cell) -> None:
        call = cell.owner
        if isinstance(call, Call) and call.actor is not None and not cell.is_ready and call.actor.runs_here():
            raise RuntimeError(_deadlock(call.name))

    def cancel(self, target: Any, force: bool, recursive: bool) -> None:
        call = target._stream.call if type(target) is LocalGenerator else cell_of(target).owner
        if not isinstance(call, Call):
            return
        if force and call.actor is not None:
            raise ValueError("force=True ends processes of tasks; for actors there is kill()")
        call.cancel()

    def is_cancelled(self) -> bool:
        call = current.get()
        if call is None:
            raise RuntimeError("is_canceled() is for tasks and methods of actors: this is the driver")
        return call.is_cancelled

    # Actors.

    def remember(self, actor: Actor) -> None:
        """It lives."""
        self._actors[actor.id] = actor

    def forget(self, actor: Actor) -> None:
        """It is dead."""
        self._actors.pop(actor.id, None)

    def actor(self, identity: bytes) -> Actor:
        """The living actor of this id."""
        actor = self._actors.get(identity)
        if actor is None:
            from aktis.exceptions import ActorHandleNotFoundError

            raise ActorHandleNotFoundError(f"there is no living actor ({identity.hex()}) in this aktis.testing.local()")
        return actor

    def named(self, name: str, namespace: str) -> Actor | None:
        """The living actor of this name."""
        named = (actor for actor in self._actors.values() if (actor.name, actor.namespace) == (name, namespace))
        return next(named, None) if name else None

    def list_actors(self) -> list[dict[str, Any]]:
        return [
            {"actor_id": actor.id.hex(), "name": actor.name, "namespace": actor.namespace, "state": "ALIVE"}
            for actor in self._actors.values()
        ]

    def class_of_this_actor(self) -> type[Any] | None:
        """The class of the actor whose method calls this."""
        call = current.get()
        return None if call is None or call.actor is None else call.actor.cls

    def request_exit(self) -> None:
        """The actor whose method calls this ends after it, which the exception that is raised next says."""

    # Datasets.

    def execute(self, execute: Callable[..., Any], outputs: list[Any], options: dict[str, Any]) -> LocalExecution:
        """Runs plans in threads of this process."""
        from .datasets import LocalExecution, Questions

        questions = Questions(self)
        native = execute(outputs, **options, in_process=(self.totals, questions.enter))
        execution = LocalExecution(native, questions, self)
        self._executions.add(execution)
        return execution

    def loaded(self, definition: dict[str, Any]) -> LocalFunction:
        """A function of a dataset, for the thread of the engine that calls this."""
        from .datasets import LocalFunction

        return LocalFunction(definition, self.questions_of[threading.get_ident()])

    # Where the running code is.

    def context(self) -> dict[str, Any]:
        call = current.get()
        actor = None if call is None else call.actor
        resources = {} if call is None else call.resources
        return {
            "job_id": self._id,
            "node_id": self._id,
            "worker_id": self._id,
            "role": "driver" if call is None else "worker",
            "session_dir": f"local-{self._id}",
            "gcs_address": f"local:{self._id}",
            "namespace": self._namespace,
            "was_reconstructed": actor is not None and actor.restarts > 0,
            "resources": dict(resources),
            "task_id": None if call is None else call.task.hex(),
            "actor_id": None if actor is None else actor.id.hex(),
            "gpu_ids": list(range(math.ceil(resources.get("GPU", 0)))),
        }

    def nodes(self) -> list[dict[str, Any]]:
        host = os.uname().nodename
        return [
            {
                "NodeID": self._id,
                "Alive": True,
                "NodeManagerHostname": host,
                "NodeName": host,
                "NodeManagerAddress": f"unix:local-{self._id}",
                "RayletSocketName": "",
                "Resources": dict(self.totals),
                "Available": dict(self.totals),
                "Labels": {},
                "IsHeadNode": True,
                "DeathReason": "",
                "ObjectStoreCapacityBytes": _MEMORY_BYTES,
                "ObjectStoreUsedBytes": 0,
                "ObjectStoreDiskBytes": 0,
            }
        ]

    def missing(self, options: dict[str, Any]) -> str | None:
        """What a request needs that there is not, in words."""
        wanted: dict[str, float] = options.get("resources") or {}
        short = {name: amount for name, amount in wanted.items() if amount > self.totals.get(name, 0.0)}
        if options.get("gpu_memory_bytes"):
            short["gpu_memory"] = options["gpu_memory_bytes"]
        strategy = options.get("strategy")
        if isinstance(strategy, tuple) and not strategy[2] and strategy[1] != self._id:
            return f"node {strategy[1]} is not there, and aktis.testing.local() is the only one"
        if not short:
            return None
        there = {name: self.totals.get(name, 0.0) for name in short}
        return f"needs {_as_json(short)}, but the largest node has {_as_json(there)}"


def _as_json(amounts: dict[str, float]) -> str:
    return json.dumps({name: int(amount) if float(amount).is_integer() else amount for name, amount in amounts.items()})


class TaskTemplate:
    """A remote function with its options, as the native module's."""

    def __init__(self, runtime: LocalRuntime, function_id: bytes, name: str, options: dict[str, Any]):
        self._runtime = runtime
        self._function = runtime.kept(function_id)
        self._name = options.get("name") or name
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        call = Call(self._name, args, kwargs, self._options, retries=self._options.get("max_retries"))
        returned = call.returned()
        missing = self._runtime.missing(self._options)
        if missing is not None:
            call.fail(Failure(UNSCHEDULABLE, f"no node of the cluster can run it: {missing}"))
            return returned

        def run() -> None:
            with watched(self._name):
                call.run(self._function)

        call.when_ready(run, lambda: late.submit(run))
        return returned
