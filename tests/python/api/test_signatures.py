"""Every keyword of Ray's core API is honoured, refused by name with the way out, or listed as harmless with the reason.

The tables below are Ray 2.60's signatures. A keyword that is honoured is shown to change what the native module is told, or is
a named parameter of the function; so none can be accepted and forgotten.
"""

import inspect

import aktis
import pytest
from aktis._calls import options as known_options
from aktis._process import actor_host
from aktis._session import init_arguments
from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.usefixtures("no_session")
NODE = NodeAffinitySchedulingStrategy("ab" * 16, soft=False)

#: Keywords that change what happens, with a value that asks for something.
TASK = {
    "num_cpus": 2, "num_gpus": 1, "memory": 1 << 20, "resources": {"a": 1}, "num_returns": 2, "max_retries": 5,
    "retry_exceptions": True, "max_calls": 3, "name": "other", "scheduling_strategy": NODE,
    "_generator_backpressure_num_objects": 4,
}  # fmt: skip
ACTOR = {
    "num_cpus": 2, "num_gpus": 1, "memory": 1 << 20, "resources": {"a": 1}, "name": "other", "namespace": "n",
    "get_if_exists": True, "lifetime": "detached", "max_concurrency": 3, "concurrency_groups": {"io": 2},
    "max_restarts": 2, "max_task_retries": 2, "max_pending_calls": 7, "scheduling_strategy": NODE,
}  # fmt: skip
METHOD = {
    "num_returns": 2, "concurrency_group": "io", "max_task_retries": 2, "retry_exceptions": True, "name": "other",
    "_generator_backpressure_num_objects": 4,
}  # fmt: skip
#: Keywords that Aktis does not have, with a value that asks for something.
REFUSED_OF_BOTH = {
    "label_selector": {"a": "b"}, "fallback_strategy": [{"label_selector": {"a": "b"}}], "accelerator_type": "H100",
    "placement_group": object(), "placement_group_bundle_index": 1, "placement_group_capture_child_tasks": True,
    "object_store_memory": 1, "runtime_env": {"pip": ["x"]}, "_num_objects_per_yield": 2,
    "enable_tensor_transport": True, "tensor_transport": "nccl",
}  # fmt: skip
REFUSED = {
    "task": REFUSED_OF_BOTH | {"num_returns": "dynamic"},
    "actor": REFUSED_OF_BOTH
    | {"allow_out_of_order_execution": True, "_actor_generator_backpressure_num_objects": 2}
    | {"_generator_backpressure_num_objects": 2},
    "method": {
        "num_returns": "dynamic",
        "tensor_transport": "nccl",
        "enable_tensor_transport": True,
        "_num_objects_per_yield": 2,
    },
}
HONOURED = {"task": TASK, "actor": ACTOR, "method": METHOD}
KNOWN = {
    "task": known_options.TASK_OPTIONS,
    "actor": known_options.ACTOR_OPTIONS,
    "method": known_options.METHOD_OPTIONS,
}
#: What Aktis adds to Ray's.
OWN = {"gpu_memory"}


def told(what, options):
    """What the native module is told about options."""
    if what == "task":
        return known_options.native_task_options(options, is_generator=False)
    if what == "method":
        return known_options.native_method_options(options, is_generator=False)
    limits = actor_host.call_limits(object, options)
    return known_options.native_actor_options(options, "default") | limits


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in HONOURED.items() for name in names])
def test_an_option_that_is_accepted_changes_what_happens(what, name):
    options = {name: HONOURED[what][name]}
    known_options.check_options(what, KNOWN[what], options)
    assert told(what, options) != told(what, {})


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in REFUSED.items() for name in names])
def test_an_option_that_aktis_does_not_have_is_refused_by_name_with_the_way_out(what, name):
    with pytest.raises(ValueError, match=name) as refused:
        known_options.check_options(what, KNOWN[what], {name: REFUSED[what][name]})
    assert len(str(refused.value).partition(": ")[2]) > len("leave it out"), "it says what to do instead"


@pytest.mark.parametrize("what", KNOWN)
def test_there_is_no_option_besides_those(what):
    harmless = {name for name, reason in known_options.HARMLESS.items() if reason}
    assert KNOWN[what] - OWN == {*HONOURED[what], *REFUSED[what], *harmless}


#: ``ray.init``: honoured (with a value that asks for something), refused (the same), harmless.
INIT_HONOURED = {
    "address": "local", "num_cpus": 3, "num_gpus": 1, "resources": {"a": 1}, "labels": {"a": "b"},
    "object_store_memory": 80 << 20, "ignore_reinit_error": True, "configure_logging": False, "logging_level": "debug",
    "log_to_driver": False, "namespace": "n", "runtime_env": {"env_vars": {"A": "b"}},
    "_memory": 1 << 30, "_temp_dir": "/tmp", "_object_spilling_directory": "/tmp",
}  # fmt: skip
INIT_REFUSED = {
    "include_dashboard": True, "logging_format": "%(message)s", "logging_config": object(), "job_config": object(),
    "enable_resource_isolation": True, "cgroup_path": "/sys", "system_reserved_cpu": 1.0, "system_reserved_memory": 1,
    "proxy_server_url": "http://x", "_system_config": {"a": 1}, "_node_ip_address": "10.0.0.1", "_node_name": "n",
    "_plasma_directory": "/dev/shm", "_driver_object_store_memory": 1, "_metrics_export_port": 1,
    "_tracing_startup_hook": "a:b",
}  # fmt: skip
INIT_HARMLESS = {
    "dashboard_host", "dashboard_port", "_redis_username", "_redis_password", "_enable_object_reconstruction",
    "_skip_env_hook",
}  # fmt: skip


@pytest.mark.parametrize("name", INIT_HONOURED)
def test_an_argument_of_init_that_is_accepted_has_a_parameter_or_a_setting(name):
    parameters = inspect.signature(aktis.init).parameters
    if name in parameters:
        return
    init_arguments.check_init_arguments({name: INIT_HONOURED[name]}, local_mode=False)
    laptop = init_arguments.LaptopArguments(None, None, None, None, None, None, {name: INIT_HONOURED[name]})
    assert INIT_HONOURED[name] in laptop.options([]).values()


@pytest.mark.parametrize("name", INIT_REFUSED)
def test_an_argument_of_init_that_aktis_does_not_have_is_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        aktis.init(num_cpus=1, **{name: INIT_REFUSED[name]})
    assert not aktis.is_initialized()


def test_harmless_arguments_of_init_are_listed_with_their_reason():
    assert set(init_arguments.HARMLESS) == INIT_HARMLESS and all(init_arguments.HARMLESS.values())
    init_arguments.check_init_arguments(dict.fromkeys(INIT_HARMLESS, "x"), local_mode=False)
    refused = set(init_arguments._ONLY_DEFAULT)
    assert refused == set(INIT_REFUSED)


#: Functions and methods, with the names and the order of Ray's parameters; keyword-only ones after the star.
FUNCTIONS = {
    "get": "object_refs * timeout _tensor_transport",
    "wait": "ray_waitables * num_returns timeout fetch_local",
    "put": "value * _owner _tensor_transport",
    "cancel": "ray_waitable * force recursive",
    "kill": "actor * no_restart",
    "get_actor": "name namespace",
    "shutdown": "_exiting_interpreter wait_for_processes",
    "is_initialized": "",
    "nodes": "",
    "cluster_resources": "",
    "available_resources": "",
    "get_gpu_ids": "",
    "get_runtime_context": "",
    "util.list_named_actors": "all_namespaces",
    "util.ActorPool": "actors",
    "util.ActorPool.map": "fn values",
    "util.ActorPool.submit": "fn value",
    "util.ActorPool.get_next": "timeout ignore_if_timedout",
    "util.ActorPool.get_next_unordered": "timeout ignore_if_timedout",
    "util.queue.Queue": "maxsize actor_options",
    "util.queue.Queue.put": "item block timeout",
    "util.queue.Queue.get": "block timeout",
    "util.queue.Queue.get_nowait_batch": "num_items",
    "util.queue.Queue.shutdown": "force grace_period_s",
    "util.scheduling_strategies.NodeAffinitySchedulingStrategy": "node_id soft _spill_on_unavailable _fail_on_unavailable",
}


@pytest.mark.parametrize("path", FUNCTIONS)
def test_parameters_have_the_names_that_ray_gives_them(path):
    function = aktis
    for name in path.split("."):
        function = getattr(function, name)
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]  # pyright: ignore[reportArgumentType]
    assert set(FUNCTIONS[path].split()) - {"*"} <= set(parameters)
    positional = FUNCTIONS[path].split("*")[0].split()
    if path != "shutdown":
        assert parameters[: len(positional)] == positional


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aktis.put(1, _owner=object()), "_owner"),  # type: ignore[arg-type]
        (lambda: aktis.put(1, _tensor_transport="nccl"), "_tensor_transport"),  # type: ignore[arg-type]
        (lambda: aktis.get([], _tensor_transport="nixl"), "_tensor_transport"),  # type: ignore[call-overload]
        (lambda: NodeAffinitySchedulingStrategy("a", soft=True, _spill_on_unavailable=True), "_spill_on_unavailable"),
        (lambda: NodeAffinitySchedulingStrategy("a", soft=True, _fail_on_unavailable=True), "_fail_on_unavailable"),
        (lambda: aktis.init(namespace=""), "namespace"),
        (lambda: aktis.init(logging_level="loud"), "logging_level"),
    ],
)  # fmt: skip
def test_values_that_ask_for_what_there_is_not_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aktis.init(namespace=123), "namespace"),  # type: ignore[arg-type]
        (lambda: aktis.wait([aktis.put(1)], num_returns=1.0), "num_returns"),  # type: ignore[call-overload]
    ],
)
def test_values_of_a_wrong_type_are_refused_by_name(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_a_misspelt_environment_variable_names_the_one_that_is_meant(monkeypatch):
    monkeypatch.setenv("AKTIS_NUM_CPU", "2")
    with pytest.raises(ValueError, match="AKTIS_NUM_CPU is no setting: did you mean AKTIS_NUM_CPUS"):
        aktis.init(log_to_driver=False)
