"""Resources, nodes and the runtime context of a laptop session."""

import os
import time

import pytest

from .system import DEADLINE_S, SESSION_CPUS, exceptions, ray, session_arguments


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@pytest.fixture(scope="module", autouse=True)
def gpu_session():
    """A session with logical GPUs and a custom resource."""
    ray.init(**session_arguments(num_gpus=2, resources={"special": 4}))
    yield
    ray.shutdown()


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


def test_cluster_resources_name_what_was_declared():
    total = ray.cluster_resources()
    assert total["CPU"] == float(SESSION_CPUS) and isinstance(total["CPU"], float)
    assert total["GPU"] == 2.0
    assert total["special"] == 4.0
    assert total["memory"] > 0 and total["object_store_memory"] > 0


def test_available_resources_shrink_while_an_actor_holds_them_and_come_back():
    @ray.remote(num_cpus=1, num_gpus=0.5, resources={"special": 3})
    class Holder:
        def ready(self):
            return True

    until(lambda: ray.available_resources().get("special") == 4.0)
    holder = Holder.remote()
    get(holder.ready.remote())
    left = {"special": 1.0, "GPU": 1.5, "CPU": SESSION_CPUS - 1.0}
    until(lambda: left.items() <= ray.available_resources().items())
    ray.kill(holder)
    until(lambda: ray.available_resources().get("special") == 4.0)


def test_a_resource_that_is_used_up_is_missing_or_zero():
    @ray.remote(num_cpus=0, resources={"special": 4})
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    get(holder.ready.remote())
    until(lambda: ray.available_resources().get("special", 0) == 0)
    ray.kill(holder)
    until(lambda: ray.available_resources().get("special") == 4.0)


def test_nodes_lists_one_living_node():
    (node,) = ray.nodes()
    assert node["Alive"] is True
    assert node["Resources"]["CPU"] == float(SESSION_CPUS)
    assert len(bytes.fromhex(node["NodeID"])) > 0
    assert isinstance(node["NodeManagerAddress"], str)
    assert isinstance(node["NodeManagerHostname"], str)
    assert isinstance(node["Labels"], dict)


def test_the_node_itself_is_a_resource():
    # Ray gives every node a resource "node:<ip>", by which old scripts pin tasks.
    assert any(name.startswith("node:") for name in ray.cluster_resources())


def test_a_gpu_task_sees_its_devices_only():
    @ray.remote(num_gpus=1)
    def devices():
        return os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_gpu_ids()

    visible, ids = get(devices.remote())
    assert visible in ("0", "1")
    assert [str(i) for i in ids] == [visible]


def test_a_task_of_two_gpus_sees_both():
    @ray.remote(num_gpus=2)
    def devices():
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    assert sorted(get(devices.remote()).split(",")) == ["0", "1"]


def test_a_task_without_gpus_sees_none():
    @ray.remote
    def devices():
        return os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_gpu_ids()

    visible, ids = get(devices.remote())
    assert ids == []
    assert visible in ("", None)


def test_fractions_share_a_device_and_never_straddle_two():
    @ray.remote(num_gpus=0.4)
    class Part:
        def device(self):
            return os.environ["CUDA_VISIBLE_DEVICES"]

    parts = [Part.remote() for _ in range(4)]
    devices = get([part.device.remote() for part in parts])
    assert sorted(devices) == ["0", "0", "1", "1"]
    fifth = Part.remote()
    with pytest.raises(exceptions.GetTimeoutError):  # 2 x 0.2 GPU are free, and no device has 0.4
        ray.get(fifth.device.remote(), timeout=1)
    ray.kill(parts[0])
    assert get(fifth.device.remote()) in ("0", "1")


def test_a_fraction_of_a_device_above_one_must_be_whole():
    @ray.remote
    def task():
        return 1

    with pytest.raises(ValueError):
        task.options(num_gpus=1.5).remote()


def test_the_runtime_context_names_where_code_runs():
    @ray.remote
    class Self:
        def ids(self):
            context = ray.get_runtime_context()
            return (
                context.get_node_id(),
                context.get_job_id(),
                context.get_worker_id(),
                context.get_actor_id(),
                context.get_task_id(),
            )

    @ray.remote
    def ids():
        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_job_id(), context.get_actor_id(), context.get_task_id()

    here = ray.get_runtime_context()
    actor = Self.remote()
    node, job, worker, actor_id, task = get(actor.ids.remote())
    assert node == here.get_node_id() == ray.nodes()[0]["NodeID"]
    assert job == here.get_job_id()
    assert worker != here.get_worker_id()
    assert actor_id == actor._actor_id.hex()
    assert task is not None
    node, job, actor_id, task = get(ids.remote())
    assert (node, job, actor_id) == (here.get_node_id(), here.get_job_id(), None)
    assert here.get_actor_id() is None


def test_the_runtime_context_names_the_resources_of_a_task():
    @ray.remote(num_cpus=0.5, num_gpus=1)
    def assigned():
        context = ray.get_runtime_context()
        return context.get_assigned_resources(), context.get_accelerator_ids()

    resources, accelerators = get(assigned.remote())
    assert resources["CPU"] == 0.5 and resources["GPU"] == 1.0
    assert accelerators["GPU"] in (["0"], ["1"])
