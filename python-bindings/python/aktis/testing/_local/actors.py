"""Actors of :func:`aktis.testing.local`: instances in this process, with the lives that they would have in processes of their own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aktis._process.actor_host import DEFAULT_GROUP, ActorExit, has_async_methods
from aktis._process.worker import describe_exception, exit_code

from . import carrying
from .calls import ACTOR_DIED, UNAVAILABLE, UNSCHEDULABLE, Call, running
from .hosts import AsyncHost, SyncHost, ThreadedHost
from .references import Failure, new_task_id

if TYPE_CHECKING:
    from .runtime import LocalRuntime

#: Failures of calls that are too many.
_TOO_MANY = 15


class Actor:
    """An actor, whoever has handles of it."""

    def __init__(
        self, runtime: LocalRuntime, cls: type[Any], name: str, args: Any, kwargs: Any, options: dict[str, Any]
    ):
        self.id = new_task_id()
        self.cls = cls
        self.class_name = name
        self.name: str = options["name"]
        self.namespace: str = options["namespace"]
        self.handle_state: bytes = options["handle_state"]
        #: Why it is dead, if it is.
        self.death: Failure | None = None
        self.handles = 0
        self.restarts = 0
        self.resources: dict[str, float] = options["resources"] or {}
        self._runtime = runtime
        self._options = options
        self._given = (args, kwargs)
        self._calls: set[Call] = set()
        self._lock = threading.RLock()
        self._host: SyncHost | ThreadedHost | AsyncHost | None = None
        self._is_being_made = False

    def begin(self) -> None:
        """Runs the constructor."""
        missing = self._runtime.missing(self._options)
        if missing is not None:
            self._die(Failure(UNSCHEDULABLE, f"infeasible: {missing}"))
            return
        args, kwargs = self._given
        making = Call(f"{self.class_name}.__init__", args, kwargs, {"resources": self.resources}, actor=self, retries=0)
        self._is_being_made = True
        for cell in making.inputs:
            self._runtime.wait_for([cell], None)
        try:
            failed = next((cell.failure for cell in making.inputs if cell.failure is not None), None)
            if failed is not None:
                raise failed.raised()
            with running(making):
                given, named = making.arguments()
                self._host = self._hosted(lambda: self.cls(*given, **named))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - told to callers
            self._die(self._failed_constructor(error, making.name))
        finally:
            self._is_being_made = False

    def _hosted(self, construct: Callable[[], Any]) -> SyncHost | ThreadedHost | AsyncHost:
        groups = {**self._options["concurrency_groups"], DEFAULT_GROUP: self._options["calls_at_once"]}
        if has_async_methods(self.cls):
            return AsyncHost(construct, groups)
        if len(groups) > 1 or groups[DEFAULT_GROUP] > 1:
            return ThreadedHost(construct, groups)
        return SyncHost(construct)

    def _failed_constructor(self, error: BaseException, name: str) -> Failure:
        exception, message, text, _ = describe_exception(error, name, None)
        told = f"the constructor of actor {self.class_name} ({self.id.hex()}) raised: {message}"
        return Failure(ACTOR_DIED, told, exception, text)

    def call(self, method: str, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Calls a method; returns references."""
        retries = options.get("max_task_retries")
        retries = self._options.get("max_task_retries", 0) if retries is None else retries
        host = self._host
        urge = functools.partial(host.pump, drains=True) if isinstance(host, SyncHost) else None
        call = Call(name, args, kwargs, options, actor=self, retries=retries, urge=urge)
        call.resources = self.resources
        with self._lock:
            failure = self.death or self._too_many()
            if failure is None:
                self._calls.add(call)
                call.on_end = functools.partial(self._ended, call)
        returned = call.returned()
        if failure is not None:
            if failure.code == _TOO_MANY:
                raise failure.raised()
            call.fail(failure)
            return returned
        assert host is not None, "it lives"
        try:
            host.submit(call, method)
        except ValueError as error:  # there is no such concurrency group
            call.raised(error)
        return returned

    def _too_many(self) -> Failure | None:
        limit = self._options.get("max_pending_calls", -1)
        if limit < 0 or len(self._calls) < limit:
            return None
        told = f"{len(self._calls)} calls of this process wait for actor {self.id.hex()}, as many as max_pending_calls={limit} allows"
        return Failure(_TOO_MANY, told)

    def _ended(self, call: Call) -> None:
        with self._lock:
            self._calls.discard(call)
        if self.handles <= 0:
            self._end_if_unwanted()

    def runs_here(self) -> bool:
        """Whether the calling thread is in a method of it, and no other can run meanwhile."""
        return self._is_being_made or (self._host is not None and self._host.runs_here())

    def exited(self, call: Call, error: SystemExit) -> Failure:
        """A method has raised an exit: what its caller is told."""
        if isinstance(error, ActorExit):
            self.die("it ended itself (exit_actor())", spare=call)
            return Failure(ACTOR_DIED, f"the actor ended itself in {call.name} (exit_actor())")
        status, is_wish = exit_code(error)
        cause = f"its process exited with code {status}"
        if is_wish or not self.restart():
            self.die(cause, spare=call)
            assert self.death is not None, "it has just died"
            return self.death
        return Failure(UNAVAILABLE, f"actor {self.class_name} ({self.id.hex()}) was started again: {cause}")

    def restart(self) -> bool:
        """Makes it anew, if its ``max_restarts`` allows it."""
        most = self._options.get("max_restarts", 0)
        if most != -1 and self.restarts >= most:
            return False
        self.restarts += 1
        if self._host is not None:
            self._host.end()
        self.begin()
        return self.death is None

    def kill(self, *, no_restart: bool) -> None:
        """Ends it at once."""
        if self.death is not None:
            return
        waiting = list(self._calls)
        if no_restart or not self.restart():
            self.die("killed by kill()")
            return
        told = f"actor {self.class_name} ({self.id.hex()}) was started again: killed by kill()"
        for call in waiting:
            call.fail(Failure(UNAVAILABLE, told))

    def die(self, cause: str, spare: Call | None = None) -> None:
        """It is dead for good. ``spare``: a call that is answered otherwise."""
        told = f"actor {self.class_name} ({self.id.hex()}) is dead: the actor died: {cause}"
        self._die(Failure(ACTOR_DIED, told), spare)

    def _die(self, death: Failure, spare: Call | None = None) -> None:
        with self._lock:
            if self.death is not None:
                return
            self.death = death
            calls = [call for call in self._calls if call is not spare]
        self._runtime.forget(self)
        for call in calls:
            call.fail(death)
        if self._host is not None:
            self._host.end()
            self._host = None

    def release(self) -> None:
        """A handle is gone."""
        self.handles -= 1
        if self.handles <= 0:
            self._end_if_unwanted()

    def _end_if_unwanted(self) -> None:
        if self._options["detached"] or self._calls or self.death is not None or self._is_being_made:
            return
        self.end_in_order()

    def end_in_order(self) -> None:
        """Ends it as an actor ends whose last handle is gone."""
        host = self._host
        hook = getattr(self.cls, "__ray_shutdown__", None)
        if hook is not None and host is not None:
            Call(f"{self.class_name}.__ray_shutdown__", (), {}, {}, retries=0).run(lambda: hook(host.instance))
        self.die("its last handle is gone")


class ActorCore:
    """A handle on an actor, as the native module's."""

    runtime: LocalRuntime

    def __init__(self, actor: Actor):
        self._actor = actor
        actor.handles += 1

    @classmethod
    def create(cls, class_id: bytes, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> ActorCore:
        from aktis.exceptions import ActorAlreadyExistsError

        runtime = cls.runtime
        known = runtime.named(options["name"], options["namespace"])
        if known is not None:
            if options["get_if_exists"]:
                return cls(known)
            raise ActorAlreadyExistsError(
                f'the name "{options["name"]}" is taken by a living actor in namespace "{options["namespace"]}"; choose another, kill '
                "that actor, or pass get_if_exists=True"
            )
        carrying.carry((args, kwargs))  # raises here what cannot be sent
        actor = Actor(runtime, runtime.kept(class_id), name, args, kwargs, options)
        runtime.remember(actor)
        core = cls(actor)
        actor.begin()
        return core

    @classmethod
    def by_name(cls, name: str, namespace: str) -> tuple[ActorCore, bytes]:
        actor = cls.runtime.named(name, namespace)
        if actor is None:
            raise ValueError(
                f'Failed to look up actor with name {name!r}: there is no living actor named "{name}" in namespace "{namespace}". '
                f'Create it with .options(name="{name}"), in the same namespace, and keep a handle or use lifetime="detached".'
            )
        return cls(actor), actor.handle_state

    @classmethod
    def restore(cls, state: tuple[Any, ...]) -> ActorCore:
        return cls(cls.runtime.actor(state[0]))

    def state(self) -> tuple[Any, ...]:
        return (self._actor.id, 0, self._actor.class_name, None)

    def id(self) -> str:
        return self._actor.id.hex()

    def method(self, name: str, options: dict[str, Any]) -> MethodTemplate:
        return MethodTemplate(self, self._actor, name, options)

    def kill(self, no_restart: bool) -> None:
        self._actor.kill(no_restart=no_restart)

    def __del__(self) -> None:
        actor = self.__dict__.get("_actor")
        if actor is not None:
            actor.release()


class MethodTemplate:
    """A method of one actor with its options, as the native module's."""

    def __init__(self, core: ActorCore, actor: Actor, name: str, options: dict[str, Any]):
        #: The handle lives as long as this does.
        self._core = core
        self._actor = actor
        self._method = name
        self._options = options
        self._name = options.get("name") or f"{actor.class_name}.{name.rpartition(':')[2]}"

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self._actor.call(self._method, self._name, args, kwargs, self._options)
