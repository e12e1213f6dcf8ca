"""Checks the arguments of ``init``."""

from __future__ import annotations

import os
import sys

from .._calls.quantities import check_quantity, check_resources

# As type checkers know it: `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: As `logging` has them, which need not be imported for it.
_LOGGING_LEVELS = {
    "CRITICAL": 50, "FATAL": 50, "ERROR": 40, "WARNING": 30, "WARN": 30, "INFO": 20, "DEBUG": 10, "NOTSET": 0,
}  # fmt: skip
#: Arguments of ``ray.init`` that are accepted and change nothing, and why that is no loss.
HARMLESS = {
    "dashboard_host": "there is no dashboard that could listen there",
    "dashboard_port": "there is no dashboard that could listen there",
    "_redis_username": "the head keeps its tables in a file, not in Redis",
    "_redis_password": "the head keeps its tables in a file, not in Redis",
    "_enable_object_reconstruction": "lost results of tasks are computed again in any case",
    "_skip_env_hook": "there is no hook that could change runtime_env",
}
_BY_LOGGING = "use Python's logging: give the logger 'aktis' a handler and a format of your own"
_NO_DASHBOARD = "there is no dashboard; 'aktis status' and 'aktis list' show a cluster. Leave it out"
_NO_ISOLATION = (
    "processes of the system have no cgroup of their own. Leave it out, and limit num_cpus= and _memory= instead"
)
_NO_METRICS = "no metrics are exported. Leave it out"
#: Arguments of ``ray.init`` that would change what happens, and that Aktis does not have: the values that are accepted because
#: they ask for nothing, and what to do instead.
_ONLY_DEFAULT: dict[str, tuple[tuple[Any, ...], str]] = {
    "include_dashboard": ((None, False), _NO_DASHBOARD),
    "logging_format": ((None,), _BY_LOGGING),
    "logging_config": ((None,), _BY_LOGGING),
    "job_config": ((None,), "give namespace= and runtime_env= to init() itself"),
    "enable_resource_isolation": ((None, False), _NO_ISOLATION),
    "cgroup_path": ((None,), _NO_ISOLATION),
    "system_reserved_cpu": ((None,), _NO_ISOLATION),
    "system_reserved_memory": ((None,), _NO_ISOLATION),
    "proxy_server_url": ((None,), _NO_DASHBOARD),
    "_system_config": ((None, {}), "settings are environment variables, see docs/configuration.md"),
    "_node_ip_address": (
        (None, "127.0.0.1"),
        "a session without address= uses no network. Start a cluster with 'aktis start'",
    ),
    "_node_name": ((None,), "nodes have ids only. Give them labels= instead"),
    "_plasma_directory": ((None,), "choose the memory of the object store with AKTIS_OBJECT_STORE_BACKEND"),
    "_driver_object_store_memory": ((None,), "all processes of a node share its store: set object_store_memory="),
    "_metrics_export_port": ((None,), _NO_METRICS),
    "_tracing_startup_hook": ((None,), _NO_METRICS),
}
#: Arguments of ``ray.init`` with an underscore that Aktis has, and the setting that each of them is.
_SETTINGS = {"_memory": "memory", "_temp_dir": "temp_dir", "_object_spilling_directory": "spill_dir"}
#: Those with a parameter of their own.
_PARAMETERS = (
    "address", "num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "namespace", "ignore_reinit_error",
    "log_to_driver", "logging_level", "runtime_env", "configure_logging", "local_mode", "infeasible", "tags",
)  # fmt: skip

_RUNTIME_ENV_KEYS = ("env_vars", "working_dir")


def check_init_arguments(ray_arguments: Mapping[str, Any], *, local_mode: bool, infeasible: str | None = None) -> None:
    """Refuses what ``init`` does not know.

    >>> check_init_arguments({"num_cpu": 2}, local_mode=False)
    Traceback (most recent call last):
    ...
    RuntimeError: init() got an unknown argument 'num_cpu': did you mean 'num_cpus'?
    """
    if local_mode:
        raise RuntimeError(
            "local_mode is not supported (Ray removed it too): 'with aktis.testing.local():' runs everything in this process"
        )
    if infeasible not in (None, "fail", "wait"):
        raise ValueError(f"infeasible must be 'fail' or 'wait', got {infeasible!r}")
    for name, value in ray_arguments.items():
        if name in HARMLESS or name in _SETTINGS:
            continue
        if name not in _ONLY_DEFAULT:
            raise RuntimeError(f"init() got an unknown argument {name!r}{_suggestion(name)}")
        accepted, way_out = _ONLY_DEFAULT[name]
        if value not in accepted:
            raise ValueError(f"init({name}={value!r}) is not supported: {way_out}")


def _suggestion(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, (*_PARAMETERS, *HARMLESS, *_ONLY_DEFAULT, *_SETTINGS), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def tags_of(tags: Any) -> str | None:
    """Tags of a job as JSON, ``None`` if there are none.

    >>> tags_of({"team": "search"})
    '{"team": "search"}'
    >>> tags_of({"team": 3})
    Traceback (most recent call last):
    ...
    TypeError: init(): tags are names with texts, such as {'team': 'search'}, not {'team': 3}
    >>> tags_of({"job": "mine"})
    Traceback (most recent call last):
    ...
    ValueError: init(): 'job' is no name of a tag: aktis cost --by job adds up by jobs; call it something else
    """
    if not tags:
        return None
    from collections import abc

    is_told = isinstance(tags, abc.Mapping) and all(isinstance(text, str) for pair in tags.items() for text in pair)
    if not is_told:
        raise TypeError(f"init(): tags are names with texts, such as {{'team': 'search'}}, not {tags!r}")
    for name in tags:
        if name in ("job", "operator", "worker"):
            raise ValueError(
                f"init(): {name!r} is no name of a tag: aktis cost --by {name} adds up by {name}s; call it something else"
            )
        if not name or "," in name:
            raise ValueError(f"init(): the name of a tag is not empty and has no comma, unlike {name!r}")
    import json

    return json.dumps(dict(tags))


def check_namespace(namespace: Any) -> None:
    """Raises unless it is ``None`` or the name of a namespace."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a string: got {namespace!r} of type {type(namespace).__name__}")
    if namespace == "":
        raise ValueError("namespace cannot be empty: leave it out for a new one")


def logging_level_of(level: Any) -> int:
    """The number of a level of logging, given by number or name.

    >>> logging_level_of("info"), logging_level_of(10)
    (20, 10)
    """
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    number = _number_of(level.upper()) if isinstance(level, str) else None
    if not isinstance(number, int):
        raise ValueError(  # noqa: TRY004
            f'logging_level must be a level of logging, such as "info" or logging.INFO: got {level!r}'
        )
    return number


def _number_of(name: str) -> int | None:
    # Levels of the user's own are only known where `logging` is imported; for the others it need not be.
    logging = sys.modules.get("logging")
    number = _LOGGING_LEVELS.get(name) if logging is None else logging.getLevelName(name)
    return number if isinstance(number, int) else None


class LaptopArguments:
    """What ``init`` is told about the node it starts."""

    def __init__(
        self,
        num_cpus: int | None,
        num_gpus: int | None,
        resources: Mapping[str, float] | None,
        labels: dict[str, str] | None,
        object_store_memory: int | None,
        runtime_env: Mapping[str, Any] | None,
        ray_arguments: Mapping[str, Any] | None = None,
    ):
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.resources = resources
        self.labels = labels
        self.object_store_memory = object_store_memory
        self.runtime_env = runtime_env
        for name in _SETTINGS:
            setattr(self, name, (ray_arguments or {}).get(name))

    def validate(self) -> None:
        """Raises ``ValueError`` or ``TypeError`` for what makes no sense."""
        check_quantity("num_cpus", self.num_cpus)
        check_quantity("num_gpus", self.num_gpus)
        check_quantity("object_store_memory", self.object_store_memory)
        check_quantity("_memory", getattr(self, "_memory", None))
        check_resources(self.resources)
        env = self.runtime_env or {}
        unknown = [key for key, value in env.items() if key not in _RUNTIME_ENV_KEYS and value]
        if unknown:
            raise ValueError(
                f"runtime_env does not support {', '.join(map(repr, unknown))} yet: install what your tasks need into "
                f"the environment of this process; supported are {', '.join(map(repr, _RUNTIME_ENV_KEYS))}"
            )
        folder = env.get("working_dir")
        if folder is not None and not os.path.isdir(folder):
            raise ValueError(f"working_dir of runtime_env is not a folder of this machine: {folder!r}")
        variables = env.get("env_vars") or {}
        if not all(isinstance(text, str) for pair in variables.items() for text in pair):
            raise TypeError("env_vars of runtime_env must map strings to strings")

    def refuse_for_cluster(self, address: str) -> None:
        """Raises ``ValueError`` when arguments of a new node were given for a cluster that exists."""
        given = [name for name, value in vars(self).items() if value]
        if given:
            raise ValueError(
                f"{', '.join(given)} cannot be set when joining the cluster at {address!r}: its nodes declared their "
                "own when they were started. Leave them out, or leave out address to start a session here"
            )

    def env_vars(self) -> dict[str, str]:
        """Environment variables of the workers."""
        return dict((self.runtime_env or {}).get("env_vars") or {})

    def import_folders(self) -> list[str]:
        """Folders that workers import from, besides those of this process."""
        folder = (self.runtime_env or {}).get("working_dir")
        return [os.path.abspath(folder)] if folder else []

    def options(self, zygote_command: list[str]) -> dict[str, Any]:
        """For the native module."""
        given = {
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "resources": {name: float(quantity) for name, quantity in (self.resources or {}).items()},
            "labels": self.labels,
            "object_store_memory": self.object_store_memory,
            "temp_dir": os.environ.get("AKTIS_TEMP_DIR"),
            "zygote_command": zygote_command,
        }
        given.update(
            (setting, value) for name, setting in _SETTINGS.items() if (value := getattr(self, name)) is not None
        )
        return {name: value for name, value in given.items() if value is not None}
