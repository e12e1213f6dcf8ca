"""Options of tasks, actors and methods. Needs no native module."""

import pytest
from aktis._calls import options
from aktis._session.init_arguments import LaptopArguments, check_init_arguments
from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def check_task(**given):
    options.check_options("task", options.TASK_OPTIONS, given)


def check_actor(**given):
    options.check_options("actor", options.ACTOR_OPTIONS, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_cpu": 1}, "did you mean 'num_cpus'"),
        ({"num_cpus": -1}, "num_cpus cannot be negative"),
        ({"num_gpus": 1.5}, "num_gpus must be a fraction below 1 or a whole number"),
        ({"num_cpus": float("nan")}, "finite"),
        ({"max_retries": -2}, "max_retries must be -1"),
        ({"num_returns": -1}, "num_returns cannot be negative"),
        ({"resources": {"CPU": 1}}, "num_cpus="),
        ({"resources": {"a": -1}}, "cannot be negative"),
        ({"scheduling_strategy": "PACK"}, "SPREAD"),
        ({"object_store_memory": 1}, "init"),
        ({"runtime_env": {"pip": ["x"]}}, "runtime_env"),
        ({"label_selector": {"a": "b"}}, "not supported"),
    ],
)
def test_wrong_task_options_are_refused_with_their_reason(given, message):
    with pytest.raises(ValueError, match=message):
        check_task(**given)


@pytest.mark.parametrize(
    "given", [{"num_cpus": "1"}, {"max_calls": 1.5}, {"num_returns": "many"}, {"retry_exceptions": "all"}, {"name": 5}]
)
def test_task_options_of_a_wrong_type_are_refused(given):
    with pytest.raises(TypeError):
        check_task(**given)


def test_good_task_options_pass():
    check_task(num_cpus=0.5, num_gpus=2, memory=10**9, resources={"a": 1}, num_returns="streaming", max_retries=-1)
    check_task(retry_exceptions=[ValueError], name="n", runtime_env={}, label_selector=None, placement_group="default")
    check_task(scheduling_strategy=NodeAffinitySchedulingStrategy("ab", soft=True))


@pytest.mark.parametrize(
    "given",
    [
        {"max_restarts": -2}, {"lifetime": "ever"}, {"max_concurrency": 0}, {"num_returns": 2}, {"namespace": ""},
        {"concurrency_groups": {"io": 0}},
    ],
)  # fmt: skip
def test_wrong_actor_options_are_refused(given):
    with pytest.raises(ValueError):
        check_actor(**given)


def test_a_task_asks_for_one_cpu_unless_told_otherwise():
    assert options.native_task_options({}, is_generator=False)["resources"] == {"CPU": 1.0}
    assert options.native_task_options({"num_cpus": 0}, is_generator=False)["resources"] == {"CPU": 0.0}


def test_an_actor_asks_for_nothing_unless_told_otherwise():
    assert options.native_actor_options({}, "ns")["resources"] is None
    assert options.native_actor_options({"num_gpus": 0.5}, "ns")["resources"] == {"CPU": 0.0, "GPU": 0.5}


def test_a_process_that_used_a_gpu_ends_after_one_call():
    assert options.native_task_options({"num_gpus": 0.5}, is_generator=False)["max_calls"] == 1
    assert options.native_task_options({"num_gpus": 1, "max_calls": 0}, is_generator=False)["max_calls"] == 0
    assert options.native_task_options({}, is_generator=False)["max_calls"] == 0


def test_generators_stream_unless_told_otherwise():
    assert options.native_returns(None, is_generator=True) == {"streaming": True}
    assert options.native_returns(3, is_generator=True) == {"num_returns": 3}
    assert options.native_returns(None, is_generator=False) == {"num_returns": 1}


def test_unknown_arguments_of_init_are_named_with_the_nearest_known():
    with pytest.raises(RuntimeError, match="'num_cpu': did you mean 'num_cpus'"):
        check_init_arguments({"num_cpu": 1}, local_mode=False)
    check_init_arguments({"include_dashboard": False, "_temp_dir": "x"}, local_mode=False)
    with pytest.raises(RuntimeError, match="local_mode"):
        check_init_arguments({}, local_mode=True)


def test_resources_cannot_be_declared_when_joining_a_cluster():
    with pytest.raises(ValueError, match="num_cpus"):
        LaptopArguments(4, None, None, None, None, None).refuse_for_cluster("host:1")
    LaptopArguments(None, None, None, None, None, None).refuse_for_cluster("host:1")


def test_runtime_env_says_what_it_supports(tmp_path):
    def arguments(runtime_env):
        return LaptopArguments(None, None, None, None, None, runtime_env)

    arguments({"env_vars": {"A": "b"}, "working_dir": str(tmp_path)}).validate()
    with pytest.raises(ValueError, match="'pip'"):
        arguments({"pip": ["torch"]}).validate()
    with pytest.raises(ValueError, match="working_dir"):
        arguments({"working_dir": str(tmp_path / "none")}).validate()
    with pytest.raises(TypeError, match="env_vars"):
        arguments({"env_vars": {"A": 1}}).validate()
