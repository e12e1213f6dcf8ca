"""Two nodes on one machine: tasks, actors and objects on both, and what happens when one is killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import aktis
import numpy
import pytest
from waiting import DEADLINE_S, until

from .conftest import processes_with


@pytest.fixture
def two_nodes(cluster):
    """A head with resource ``a`` and a node with resource ``b``; this process is their driver."""
    cluster.start_head("--num-cpus", "1", "--resources", '{"a": 4}')
    cluster.node_pid = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    aktis.init(address=cluster.address, log_to_driver=False)
    yield cluster
    aktis.shutdown()


def get(references):
    return aktis.get(references, timeout=DEADLINE_S)


@aktis.remote(num_cpus=0)
def node_id():
    return aktis.get_runtime_context().get_node_id()


@aktis.remote(num_cpus=0)
def numbers(count, log=None):
    if log is not None:
        with open(log, "a") as file:
            file.write(f"{count}\n")
    return numpy.arange(count)


@aktis.remote(num_cpus=0)
def total(array):
    return int(array.sum())


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count, aktis.get_runtime_context().get_node_id()


def test_tasks_and_actors_run_on_both_nodes(two_nodes):
    on_a = get(node_id.options(resources={"a": 1}).remote())
    on_b = get(node_id.options(resources={"b": 1}).remote())
    assert on_a != on_b
    assert {node["NodeID"] for node in aktis.nodes()} == {on_a, on_b}
    for resource, home in (("a", on_a), ("b", on_b)):
        counter = Counter.options(resources={resource: 1}).remote()
        assert get([counter.add.remote() for _ in range(3)]) == [(1, home), (2, home), (3, home)]


def test_objects_move_between_nodes(two_nodes):
    made_on_b = numbers.options(resources={"b": 1}).remote(2_000_000)
    assert get(total.options(resources={"a": 1}).remote(made_on_b)) == 1_999_999_000_000
    array = get(made_on_b)
    assert array.nbytes == 16_000_000
    assert not array.flags.writeable
    sent_to_b = aktis.put(numpy.ones(2_000_000))
    assert get(total.options(resources={"b": 1}).remote(sent_to_b)) == 2_000_000


def test_status_says_what_runs_on_which_node(two_nodes, tmp_path):
    gate = tmp_path / "gate"
    gate.write_text("")

    @aktis.remote(num_cpus=0)
    def stay(gate, where):
        while os.path.exists(gate):
            time.sleep(0.01)
        return aktis.get_runtime_context().get_node_id(), os.getpid()

    references = [stay.options(resources={resource: 1}).remote(str(gate), resource) for resource in "ab"]

    def listed():
        facts = json.loads(two_nodes.run("status", "--json"))
        return {(call["node_id"], call["pid"]) for call in facts["running"] if call["name"].endswith("stay")}

    def is_told():
        # Of a process that is slow to answer, it says that.
        text = two_nodes.run("status")
        return all(f"process {pid} of node {node}" in text and "does not answer" not in text for node, pid in found)

    found = until(lambda: len(calls := listed()) == 2 and calls, "both run")
    until(is_told, "status says so")
    gate.unlink()
    assert found == set(get(references))


def test_exactly_what_a_killed_node_held_is_recomputed(two_nodes, tmp_path):
    log = tmp_path / "runs"
    lost = numbers.options(resources={"b": 1}).remote(1_000_000, str(log))
    kept = numbers.options(resources={"a": 1}).remote(1_000_001, str(log))
    assert aktis.wait([lost, kept], num_returns=2, timeout=DEADLINE_S)[1] == []
    os.kill(two_nodes.node_pid, signal.SIGKILL)
    until(lambda: sum(node["Alive"] for node in aktis.nodes()) == 1, "the death of the node is noticed")
    two_nodes.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    assert get(lost).sum() == 499_999_500_000
    assert get(kept).sum() == 500_000_500_000
    assert sorted(log.read_text().split()) == ["1000000", "1000000", "1000001"]


def test_nothing_is_left_of_a_killed_raylet(cluster):
    cluster.start_head("--num-cpus", "1")
    (pid,) = cluster.daemons()
    (session,) = [folder for folder in cluster.folder.glob("aktis-*/*") if folder.is_dir()]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not processes_with(str(cluster.folder)), "zygote and workers are gone")
    until(lambda: not any(session.glob("n*")), "the node's folder is gone")


DRIVER = """
    import os, time
    import aktis
    import numpy

    aktis.init(num_cpus=2)

    @aktis.remote
    class Holder:
        def pid(self):
            return os.getpid()

    @aktis.remote
    def sleep():
        os.system("sleep 1000 &")
        time.sleep(1000)

    holder = Holder.remote()
    big = aktis.put(numpy.zeros(50_000_000))
    sleeping = sleep.remote()
    print(aktis.get(holder.pid.remote()), flush=True)
    time.sleep(1000)
"""


def test_nothing_is_left_of_a_killed_driver(cluster):
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert int(driver.stdout.readline()) > 0
        until(lambda: len(processes_with(str(cluster.folder))) >= 4, "driver, zygote and workers are up")
        driver.send_signal(signal.SIGKILL)
        driver.wait(timeout=DEADLINE_S)
        until(lambda: not processes_with(str(cluster.folder)), "zygote, workers and their children are gone")
        until(lambda: not any(cluster.folder.glob("aktis-*/*/n*")), "the session's folder is gone")
    finally:
        driver.kill()
        driver.wait(timeout=DEADLINE_S)


def test_a_killed_worker_leaves_the_session_usable(two_nodes):
    @aktis.remote(max_retries=0, num_cpus=0)
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def cause():
        with pytest.raises(aktis.exceptions.WorkerCrashedError) as caught:
            get(die.remote())
        return str(caught.value)

    # On a machine that has much to do, nobody may have told it by the time that it is given up.
    until(lambda: "SIGKILL" in cause(), "the cause of a death is told")
    assert get(total.remote(numpy.ones(3))) == 3


def test_arguments_of_another_node_wait_for_room_in_the_store(cluster):
    """As many tasks as there are CPUs want arguments of which two fit."""
    cluster.start_head("--num-cpus", "4", "--object-store-memory", "80MB")
    cluster.start_node("--num-cpus", "0", "--resources", '{"b": 4}', "--object-store-memory", "1GB")
    aktis.init(address=cluster.address, log_to_driver=False)
    try:

        @aktis.remote(num_cpus=0, resources={"b": 1})
        def make(value):
            return numpy.full(36_000_000, value, dtype=numpy.uint8)

        @aktis.remote
        def last(array):
            time.sleep(0.1)
            return int(array[-1])

        assert get([last.remote(make.remote(value)) for value in range(12)]) == list(range(12))
    finally:
        aktis.shutdown()


def test_a_probe_of_the_head_succeeds_while_it_answers(cluster):
    cluster.start_head("--num-cpus", "1")
    told = json.loads(cluster.run("health-check", "--json"))
    assert told["address"] == cluster.address
    assert told["session_id"] in cluster.run("health-check", "--address", cluster.address)
    cluster.run("stop")
    with pytest.raises(AssertionError, match="no Aktis cluster runs on this machine"):
        cluster.run("health-check")
