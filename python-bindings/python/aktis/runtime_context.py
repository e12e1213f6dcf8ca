"""Where the running code is: its job, node, worker, task and actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._session import session

if TYPE_CHECKING:
    from .actor import ActorHandle


class RuntimeContext:
    """Answers of :func:`aktis.get_runtime_context`. Ids are in hexadecimal.

    >>> import aktis
    >>> @aktis.remote(num_cpus=2)
    ... def look():
    ...     context = aktis.get_runtime_context()
    ...     assert context.get_task_id() and context.get_actor_id() is None and context.get_actor_name() is None
    ...     assert not context.is_canceled()
    ...     return context.get_job_id(), context.get_assigned_resources(), context.get_accelerator_ids()
    >>> job, resources, devices = aktis.get(look.remote())
    >>> resources, devices
    ({'CPU': 2.0}, {'GPU': []})
    >>> here = aktis.get_runtime_context()
    >>> here.get_job_id() == job, here.get_task_id(), len(here.get_node_id())
    (True, None, 32)
    >>> here.get()["worker_id"] == here.get_worker_id(), here.get_session_name() in here.gcs_address
    (True, True)
    """

    def _get(self) -> dict[str, Any]:
        session.ensure_connected()
        found: dict[str, Any] = session.runtime.context()
        return found

    def get_job_id(self) -> str:
        """The job: one driver and all it started.

        Returns:
            32 hexadecimal digits.
        """
        return str(self._get()["job_id"])

    def get_node_id(self) -> str:
        """The node this process is on.

        Returns:
            32 hexadecimal digits, those of ``aktis.nodes()[i]["NodeID"]``.
        """
        return str(self._get()["node_id"])

    def get_worker_id(self) -> str:
        """This process.

        Returns:
            32 hexadecimal digits.
        """
        return str(self._get()["worker_id"])

    def get_task_id(self) -> str | None:
        """The running task or method; ``None`` in a driver.

        Returns:
            32 hexadecimal digits, or ``None``.
        """
        return self._get()["task_id"]

    def get_actor_id(self) -> str | None:
        """The actor this process is; ``None`` elsewhere.

        Returns:
            32 hexadecimal digits, or ``None``.
        """
        return self._get()["actor_id"]

    def get_actor_name(self) -> str | None:
        """The name of the actor this process is; ``None`` if it has none.

        Returns:
            The name that ``options(name=...)`` gave it, or ``None``.
        """
        actor_id = self.get_actor_id()
        for actor in session.runtime.list_actors() if actor_id else ():
            if actor.get("actor_id") == actor_id:
                return actor.get("name") or None
        return None

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """A handle of the actor this process is.

        Raises:
            RuntimeError: this process is not an actor.
        """
        from ._calls.methods import class_spec_of
        from ._process import worker
        from .actor import ActorHandle

        actor_id, actor_class = self.get_actor_id(), worker.class_of_this_actor()
        if actor_id is None or actor_class is None:
            raise RuntimeError("current_actor can only be used in a method of an actor")
        spec = class_spec_of(actor_class)
        core = session.runtime.ActorCore.restore((bytes.fromhex(actor_id), 0, spec.class_name, None))
        return ActorHandle(core, spec, spec.pickled())

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor this process is was started again after it died."""
        return bool(self._get().get("was_reconstructed", False))

    @property
    def namespace(self) -> str:
        """In which names of actors are looked for."""
        return str(self._get()["namespace"])

    @property
    def gcs_address(self) -> str:
        """The address of the control store."""
        return str(self._get()["gcs_address"])

    @property
    def job_id(self) -> str:
        """As :meth:`get_job_id`."""
        return self.get_job_id()

    @property
    def node_id(self) -> str:
        """As :meth:`get_node_id`."""
        return self.get_node_id()

    @property
    def task_id(self) -> str | None:
        """As :meth:`get_task_id`."""
        return self.get_task_id()

    @property
    def actor_id(self) -> str | None:
        """As :meth:`get_actor_id`."""
        return self.get_actor_id()

    def is_canceled(self) -> bool:
        """Whether the running task or method was cancelled. For methods that end themselves when they are.

        Returns:
            ``True`` from :func:`aktis.cancel` on.

        Raises:
            RuntimeError: this is a driver, or an async actor, whose methods get an ``asyncio.CancelledError`` instead.
        """
        session.ensure_connected()
        return bool(session.runtime.is_cancelled())

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The devices that the running task or actor may use, by kind.

        Returns:
            ``{"GPU": [...]}`` with the numbers of the devices on the node, as text; empty lists in a driver.
        """
        return {"GPU": [str(gpu) for gpu in self._get()["gpu_ids"]]}

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds; empty in a driver.

        Returns:
            Quantities by name, as ``{"CPU": 1.0}``; ``memory`` in bytes.
        """
        return dict(self._get().get("resources") or {})

    def get_session_name(self) -> str:
        """The name of the session's folder.

        Returns:
            Its last part, without those before.
        """
        return str(self._get()["session_dir"]).rstrip("/").rpartition("/")[2]

    def get(self) -> dict[str, Any]:
        """The ids of this process as a dictionary, those that apply.

        Returns:
            ``job_id``, ``node_id``, ``worker_id``, ``task_id``, ``actor_id`` and ``namespace``, without those that are ``None`` here.
        """
        context = self._get()
        names = ("job_id", "node_id", "worker_id", "task_id", "actor_id", "namespace")
        return {name: context[name] for name in names if context.get(name) is not None}

    def __repr__(self) -> str:
        return f"RuntimeContext({', '.join(f'{name}={value!r}' for name, value in self.get().items())})"


_CONTEXT = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """Where the running code is.

    Returns:
        What answers the questions; always the same object, whose answers differ from process to process.

    >>> import aktis
    >>> @aktis.remote
    ... def job():
    ...     return aktis.get_runtime_context().get_job_id()
    >>> aktis.get(job.remote()) == aktis.get_runtime_context().get_job_id()
    True
    """
    return _CONTEXT
