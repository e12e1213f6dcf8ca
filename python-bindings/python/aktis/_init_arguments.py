"""Checks the arguments of ``init``."""

from __future__ import annotations

import os

from ._quantities import check_quantity, check_resources

# As type checkers know it: `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Arguments of ``ray.init`` that mean nothing here.
_IGNORED = frozenset({
    "include_dashboard", "dashboard_host", "dashboard_port", "configure_logging", "logging_format", "logging_config",
    "job_config", "enable_resource_isolation", "cgroup_path", "system_reserved_cpu", "system_reserved_memory",
    "proxy_server_url",
})  # fmt: skip

_RUNTIME_ENV_KEYS = ("env_vars", "working_dir")


def check_init_arguments(ray_arguments: dict[str, Any], *, local_mode: bool, infeasible: str | None = None) -> None:
    """Refuses what ``init`` does not know.

    >>> check_init_arguments({"num_cpu": 2}, local_mode=False)
    Traceback (most recent call last):
    ...
    RuntimeError: init() got an unknown argument 'num_cpu': did you mean 'num_cpus'?
    """
    if local_mode:
        raise RuntimeError(
            "local_mode is not supported (Ray removed it too): to debug a remote function in this process, call its "
            "'_function' directly"
        )
    if infeasible not in (None, "fail", "wait"):
        raise ValueError(f"infeasible must be 'fail' or 'wait', got {infeasible!r}")
    for name in ray_arguments:
        if name not in _IGNORED and not name.startswith("_"):
            raise RuntimeError(f"init() got an unknown argument {name!r}{_suggestion(name)}")


def _suggestion(name: str) -> str:
    import difflib

    known = ("address", "num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "namespace",
             "ignore_reinit_error", "log_to_driver", "logging_level", "runtime_env", "infeasible",
             *_IGNORED)  # fmt: skip
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""


class LaptopArguments:
    """What ``init`` is told about the node it starts."""

    def __init__(
        self,
        num_cpus: int | None,
        num_gpus: int | None,
        resources: dict[str, float] | None,
        labels: dict[str, str] | None,
        object_store_memory: int | None,
        runtime_env: dict[str, Any] | None,
    ):
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.resources = resources
        self.labels = labels
        self.object_store_memory = object_store_memory
        self.runtime_env = runtime_env

    def validate(self) -> None:
        """Raises ``ValueError`` or ``TypeError`` for what makes no sense."""
        check_quantity("num_cpus", self.num_cpus)
        check_quantity("num_gpus", self.num_gpus)
        check_quantity("object_store_memory", self.object_store_memory)
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
        return {name: value for name, value in given.items() if value is not None}
