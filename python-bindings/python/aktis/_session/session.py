"""The session of this process: beginning it, ending it, and whether there is one.

```text
            init()                         shutdown(), exit
  none  ───────────────►  connected  ───────────────────────►  none
                              │ fork
                              ▼
                          forked: the child of a connected process, which must not use its parent's connection
```
Everything that is only good for one session (exported definitions, submission templates) is marked with a *generation*,
a number that changes whenever the session does.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref

from .. import _aktis
from .._messages import forgotten_get

# As type checkers know it. What is imported before the zygote is started is time that every session waits: `typing` would
# take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, Protocol, Unpack

    from .._typed import InitOptions
    from .context import SessionContext
    from .init_arguments import LaptopArguments

    class Bound(Protocol):
        """Something that keeps a connection to the session and can let go of it."""

        def _unbind(self) -> None: ...


_lock = threading.RLock()
_generation = 0
#: Kept here, because after a fork the native module must not be asked: another thread may have held its locks.
_may_be_connected = False
is_forked_child = False
#: Whether this process runs tasks or an actor for others.
is_worker = False
#: What ``get`` calls first with its references: in actors, and where it must not go on.
before_get: Callable[[Any], None] | None = None
_is_exit_hooked = False
#: The generation and the address of its session.
_address: tuple[int, str] | None = None
#: What serves calls: the native module; within ``aktis.testing.local()`` what runs them in this process.
runtime: Any = _aktis
#: What is sent to workers in the place of a remote function, within ``aktis.testing.chaos()``.
instead_of: Callable[[Any], Any] | None = None
_bound: weakref.WeakSet[Any] = weakref.WeakSet()


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    tags: Mapping[str, str] | None = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
    logging_level: int | str = "info",
    runtime_env: Mapping[str, Any] | None = None,
    configure_logging: bool = True,
    local_mode: Literal[False] = False,
    infeasible: Literal["fail", "wait"] | None = None,
    **ray_arguments: Unpack[InitOptions],
) -> SessionContext:
    """Begins a session: on this machine, or by joining a cluster.

    Without an address (and without ``AKTIS_ADDRESS`` in the environment) the session lives in this process and its
    children: no daemon, no TCP port. When the process ends only what workers printed is left, for a week (``log_dir``).

    The first ``.remote()``, ``put`` or ``get`` of a process calls ``init()`` by itself.

    Args:
        address: ``"HOST:PORT"`` of a cluster's head, ``"auto"`` for the cluster of this machine, ``"local"`` for a new
            session whatever the environment says.
        num_cpus: how many CPUs tasks may use; by default as many as there are. A number for the scheduler: it may be
            larger or smaller than what the machine has.
        num_gpus: how many GPUs tasks may use; by default as many as there are.
        resources: quantities of resources of your own, such as ``{"licence": 2}``.
        labels: labels of this node.
        object_store_memory: bytes of memory for objects; by default 30 % of the machine's.
        namespace: names of actors are unique within a namespace; by default it is a new one.
        tags: what this job is known by where jobs are added up, names and texts: ``aktis cost --by team`` of ``{"team": "search"}``.
        ignore_reinit_error: return the present session instead of raising when there is one.
        log_to_driver: print what workers print.
        logging_level: of the logger ``aktis``.
        runtime_env: ``{"env_vars": {...}}`` sets environment variables of the workers, ``{"working_dir": "folder"}``
            lets them import from a folder of this machine. Only without ``address``.
        infeasible: what becomes of tasks and actors that no node of the cluster can run: ``"fail"`` at once, naming what is
            missing (the default), or ``"wait"`` for a node that can, as Ray does. What a node that was lost in the last
            minutes could run always waits; ``aktis status`` says for what. Not an argument of Ray's.
        configure_logging: ``False`` leaves the logger ``aktis`` as it is.
        local_mode: not supported; :func:`aktis.testing.local` runs everything in this process.
        **ray_arguments: ``_temp_dir``, ``_memory`` and ``_object_spilling_directory`` are as in Ray. Its other arguments
            change nothing and are accepted (``dashboard_host``, ``dashboard_port`` and what concerns Redis), or are
            refused, unless they ask for nothing, with what to do instead.

    Returns:
        What the session is; also a context manager that ends it.

    Raises:
        RuntimeError: there is a session already.
        ConnectionError: no cluster answers at ``address``.

    >>> import aktis
    >>> with aktis.init(num_cpus=2, ignore_reinit_error=True) as context:
    ...     aktis.get(aktis.put("hello"))
    'hello'
    >>> aktis.is_initialized()
    False
    """
    # Imported here, because workers and most processes that import the package never need it.
    from .init_arguments import LaptopArguments, check_init_arguments, check_namespace, logging_level_of, tags_of

    check_init_arguments(ray_arguments, local_mode=local_mode, infeasible=infeasible)
    check_namespace(namespace)
    told_tags = tags_of(tags)
    with _lock:
        refuse_in_forked_child()
        if runtime.is_connected():
            return _present_session(ignore_reinit_error)
        laptop = LaptopArguments(num_cpus, num_gpus, resources, labels, object_store_memory, runtime_env, ray_arguments)
        raylet_socket = _find_raylet(address or os.environ.get("AKTIS_ADDRESS"), laptop)
        try:
            # From here on the zygote starts in the background, and importing costs nothing.
            # Errors are also raised where no descriptor is left to read a module with.
            from .. import exceptions  # noqa: F401
            from .._messages import uncaught
            from .._process.shared_modules import likely_modules
            from . import logging_level as _logging_level
            from .context import SessionContext

            if configure_logging:
                _logging_level.keep(logging_level_of(logging_level))
            _aktis.connect(
                raylet_socket,
                _entrypoint(),
                namespace or _new_namespace(),
                _log_sink(log_to_driver),
                likely_modules(),
                infeasible,
            )
            if told_tags is not None:
                _aktis.set_job_tags(told_tags)
        except BaseException:
            _aktis.shutdown()
            raise
        _begin_generation()
        mark_connected()
        _hook_exit()
        uncaught.hook()
        return SessionContext(_aktis.context())


def _present_session(ignore_reinit_error: bool) -> SessionContext:
    from .context import SessionContext
    from .logging_level import logger

    if not ignore_reinit_error:
        raise RuntimeError(
            "this process has a session already: call shutdown() before init(), or pass ignore_reinit_error=True"
        )
    logger("aktis").info("init() was called again: the session goes on as it is")
    return SessionContext(runtime.context())


def _find_raylet(address: str | None, laptop: LaptopArguments) -> str:
    from .._process.command import worker_environment, zygote_command

    if address in (None, "", "local"):
        laptop.validate()
        with worker_environment(laptop.env_vars()):
            return _aktis.start_laptop(laptop.options(zygote_command(laptop.import_folders())))["raylet_socket"]
    assert address is not None, "an empty address is the laptop's"
    laptop.refuse_for_cluster(address)
    if not address.startswith("ray://"):
        return _aktis.find_node(address)["raylet_socket"]
    try:
        return _aktis.find_node(address.removeprefix("ray://"))["raylet_socket"]
    except ConnectionError as error:
        raise ConnectionError(
            f"{error}. ray:// is the address of Ray's client, which Aktis has not: a script runs on a machine of the cluster, and "
            "the address is HOST:PORT as 'aktis start --head' says it"
        ) from None


def _entrypoint() -> str:
    return " ".join(getattr(sys, "orig_argv", None) or sys.argv)


def _new_namespace() -> str:
    text = os.urandom(16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _log_sink(is_wanted: bool) -> Any:
    if not is_wanted:
        return None
    from .worker_logs import print_worker_lines

    return print_worker_lines


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """Ends the session of this process; does nothing when there is none.

    A session without an address ends altogether: its workers, its memory and its files are gone when this returns.

    Args:
        wait_for_processes: accepted for Ray's sake; Aktis always waits.

    Raises:
        RuntimeError: this is a task or an actor, and the session its driver's.

    >>> import aktis
    >>> aktis.shutdown()
    >>> aktis.shutdown()
    """
    global _may_be_connected
    with _lock:
        if is_forked_child:
            return
        if is_worker:
            raise RuntimeError(
                "shutdown() ends the session of a driver, and cannot be called in a task or an actor: leave it out there; "
                "an actor ends itself with aktis.actor.exit_actor()"
            )
        if runtime is not _aktis:
            runtime.shutdown()
            if not _exiting_interpreter:
                return
        # Threads of the user may be waiting, and must not come back into an interpreter that ends. The runtime's own threads
        # are to finish first what they print, and end by themselves.
        try:
            if _exiting_interpreter:
                _aktis.announce_end()
            if _aktis.is_connected():
                _begin_generation()
            _aktis.shutdown()
        finally:  # also when Ctrl-C cut the waiting short
            if _exiting_interpreter:
                _aktis.seal_end()
        _may_be_connected = False


def is_initialized() -> bool:
    """Whether this process has a session.

    Returns:
        ``True`` between :func:`init`, or what begins a session by itself, and :func:`shutdown`.

    >>> import aktis
    >>> aktis.shutdown()
    >>> aktis.is_initialized()
    False
    """
    return not is_forked_child and bool(runtime.is_connected())


def ensure_connected() -> None:
    """Begins a session if this process has none, as the first call of a script does."""
    if is_forked_child or not runtime.is_connected():
        with _lock:
            refuse_in_forked_child()
            if not runtime.is_connected():
                init()


def local() -> Any:
    """What runs calls in this process, within ``aktis.testing.local()``; ``None`` elsewhere."""
    return None if runtime is _aktis else runtime


def serve_by(new: Any) -> Any:
    """Has another runtime serve calls from now on. What was bound to the one before, which is returned, lets go of it."""
    global runtime
    with _lock:
        refuse_in_forked_child()
        _begin_generation()
        before, runtime = runtime, new
        return before


def generation() -> int:
    """A number that changes whenever the session does."""
    return _generation


def address() -> str | None:
    """Where the tables of the present session are; ``None``: there is none, or this is a worker, which has but one."""
    global _address
    if is_worker or not is_initialized():
        return None
    if _address is None or _address[0] != _generation:
        _address = _generation, str(runtime.context()["gcs_address"])
    return _address[1]


def begin_anew() -> None:
    """Lets go of everything that was made for calls so far: the next one makes it again."""
    with _lock:
        _begin_generation()


def bind(bound: Bound) -> None:
    """Remembers (weakly) to unbind ``bound`` when the session ends."""
    _bound.add(bound)


def mark_connected(*, as_worker: bool = False) -> None:
    """Notes that this process has a connection, which its forks must leave alone. Workers get theirs without ``init``."""
    global _may_be_connected, is_worker
    _may_be_connected = True
    is_worker = as_worker
    if as_worker:
        forgotten_get.begin_worker()


def _begin_generation() -> None:
    global _generation
    _generation += 1
    for bound in list(_bound):
        bound._unbind()
    _bound.clear()


def refuse_in_forked_child(_refs: Any = None) -> None:
    """Raises in a process that was forked from one with a session."""
    if is_forked_child:
        raise RuntimeError(
            "this process was forked from one with an aktis session, which it cannot share: start it with the 'spawn' "
            "method of multiprocessing, or give the work to an aktis task"
        )


def _hook_exit() -> None:
    global _is_exit_hooked
    if not _is_exit_hooked:
        _is_exit_hooked = True
        atexit.register(shutdown, _exiting_interpreter=True)


def _before_fork() -> None:
    if _may_be_connected:
        _aktis.before_fork()


def _after_fork_in_parent() -> None:
    if _may_be_connected:
        _aktis.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global is_forked_child, before_get, _lock
    _lock = threading.RLock()
    if _may_be_connected:
        is_forked_child = True
        before_get = refuse_in_forked_child
        _aktis.abandon_after_fork()
        _begin_generation()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
