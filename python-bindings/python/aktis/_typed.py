"""What only type checkers and editors read: options as typed dictionaries, and the decorators that `remote` returns.

Nothing imports this module when a program runs. The tests hold the names against those that `_calls.options` and
`_session.init_arguments` accept. An option of Ray that Aktis does not have is here with the values that ask for nothing, so
that a checker reports others.
"""

# Forms of a call overlap where a type is Any, or a number: the first one that fits is taken.
# mypy: disable-error-code="overload-overlap"
# pyright: reportOverlappingOverload=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

if TYPE_CHECKING:
    from ._aktis import ObjectRef, ObjectRefGenerator
    from .actor import ActorClass
    from .remote_function import RemoteFunction
    from .util.scheduling_strategies import NodeAffinitySchedulingStrategy

P = ParamSpec("P")
T = TypeVar("T")
Out_co = TypeVar("Out_co", covariant=True)
Class = TypeVar("Class", bound=type[Any])

RetryExceptions = bool | Sequence[type[BaseException]] | None


class Anything(Protocol):
    """What a function returns whose result is not annotated: nothing else fits, because nothing has this."""

    def _is_not_annotated(self) -> None: ...


class HarmlessOptions(TypedDict, total=False):
    """Options of Ray's that change nothing."""

    enable_task_events: bool
    _labels: dict[str, str] | None
    _metadata: dict[str, Any] | None


class CommonOptions(HarmlessOptions, total=False):
    """Options of tasks and of actors."""

    name: str | None
    num_cpus: float | None
    num_gpus: float | None
    gpu_memory: float | None
    memory: float | None
    resources: Mapping[str, float] | None
    scheduling_strategy: Literal["DEFAULT", "SPREAD"] | NodeAffinitySchedulingStrategy | None
    runtime_env: None
    label_selector: None
    fallback_strategy: None
    accelerator_type: None
    placement_group: Literal["default"] | None
    placement_group_bundle_index: Literal[-1] | None
    placement_group_capture_child_tasks: Literal[False] | None
    enable_tensor_transport: Literal[False] | None
    tensor_transport: Literal["object_store"] | None
    object_store_memory: Literal[0] | None
    _num_objects_per_yield: Literal[1] | None


class TaskOptions(CommonOptions, total=False):
    """Options of tasks, but ``num_returns``, which decides what a call gives."""

    max_calls: int | None
    max_retries: int | None
    retry_exceptions: RetryExceptions
    _generator_backpressure_num_objects: int | None


class ActorOptions(CommonOptions, total=False):
    """Options of actors."""

    concurrency_groups: Mapping[str, int] | None
    lifetime: Literal["detached", "non_detached"] | None
    max_concurrency: int | None
    max_restarts: int | None
    max_task_retries: int | None
    max_pending_calls: int | None
    namespace: str | None
    get_if_exists: bool | None
    allow_out_of_order_execution: Literal[False] | None
    _generator_backpressure_num_objects: int | None
    _actor_generator_backpressure_num_objects: Literal[-1] | None


class RemoteOptions(CommonOptions, total=False):
    """Options above a definition, which may be that of a function or of a class."""

    max_calls: int | None
    max_retries: int | None
    retry_exceptions: RetryExceptions
    concurrency_groups: Mapping[str, int] | None
    lifetime: Literal["detached", "non_detached"] | None
    max_concurrency: int | None
    max_restarts: int | None
    max_task_retries: int | None
    max_pending_calls: int | None
    namespace: str | None
    get_if_exists: bool | None
    allow_out_of_order_execution: Literal[False] | None
    _generator_backpressure_num_objects: int | None
    _actor_generator_backpressure_num_objects: Literal[-1] | None


class MethodOptions(HarmlessOptions, total=False):
    """Options of methods of actors."""

    name: str | None
    num_returns: int | Literal["streaming"] | None
    concurrency_group: str | None
    max_task_retries: int | None
    retry_exceptions: RetryExceptions
    tensor_transport: Literal["object_store"] | None
    enable_tensor_transport: Literal[False] | None
    _generator_backpressure_num_objects: int | None
    _num_objects_per_yield: Literal[1] | None


class InitOptions(TypedDict, total=False):
    """Arguments of ``init`` that it takes for Ray's sake."""

    dashboard_host: str
    dashboard_port: int | None
    include_dashboard: Literal[False] | None
    logging_format: None
    logging_config: None
    job_config: None
    enable_resource_isolation: Literal[False] | None
    cgroup_path: None
    system_reserved_cpu: None
    system_reserved_memory: None
    proxy_server_url: None
    _enable_object_reconstruction: bool
    _redis_username: str | None
    _redis_password: str | None
    _skip_env_hook: bool
    _system_config: None
    _node_ip_address: Literal["127.0.0.1"] | None
    _node_name: None
    _plasma_directory: None
    _driver_object_store_memory: None
    _metrics_export_port: None
    _tracing_startup_hook: None
    _memory: float | None
    _temp_dir: str | None
    _object_spilling_directory: str | None


class RemoteDecorator(Protocol):
    """``remote(...)`` with options: makes a function or a class remote."""

    @overload
    def __call__(self, target: Class, /) -> ActorClass[Class]: ...
    @overload
    def __call__(self, target: Callable[P, Anything], /) -> RemoteFunction[Callable[P, Any], ObjectRef[Any]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Iterator[T]], /
    ) -> RemoteFunction[Callable[P, Any], ObjectRefGenerator[T]]: ...
    @overload
    def __call__(self, target: Callable[P, T], /) -> RemoteFunction[Callable[P, Any], ObjectRef[T]]: ...


class TaskDecorator(Protocol[Out_co]):
    """``remote(num_returns=...)``: for functions only."""

    def __call__(self, function: Callable[P, Any], /) -> RemoteFunction[Callable[P, Any], Out_co]: ...
