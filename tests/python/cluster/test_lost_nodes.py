"""Nodes that are lost, replaced, stopped for a while and taken back: what waits, what goes on, and what is freed."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import aktis
import aktis.data
import pytest
from waiting import DEADLINE_S, until


@pytest.fixture
def lone_b(cluster):
    """A head, and the only node with resource ``b``; this process is their driver, on the head."""
    cluster.start_head("--num-cpus", "1")
    cluster.node_pid = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    aktis.init(address=cluster.address, log_to_driver=False)
    yield cluster
    aktis.shutdown()


def get(references):
    return aktis.get(references, timeout=DEADLINE_S)


def living():
    return [node for node in aktis.nodes() if node["Alive"]]


def free(resource):
    return aktis.available_resources().get(resource, 0)


@contextlib.contextmanager
def stopped_until_dead(pid):
    """The daemon stands still for so long that the head declares its node dead."""
    alive = len(living())
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: len(living()) == alive - 1, "the stopped node is declared dead")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: len(living()) == alive, "the node is taken in again")


@aktis.remote(num_cpus=0, resources={"b": 1}, max_retries=-1)
def slow(folder, seconds=0, gate=None):
    with open(f"{folder}/runs", "a") as file:
        file.write("run\n")
    time.sleep(seconds)
    if gate:
        until(gate.exists, "the gate opens")
    return os.getpid()


@aktis.remote(num_cpus=0, resources={"b": 1})
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def pid(self):
        return os.getpid()


def test_work_for_a_node_that_is_replaced_waits_and_status_says_why(lone_b, tmp_path):
    running = slow.remote(tmp_path, gate=tmp_path / "gate")
    until((tmp_path / "runs").exists, "the task runs")
    os.kill(lone_b.node_pid, signal.SIGKILL)
    until(lambda: len(living()) == 1, "the death of the node is noticed")
    submitted = slow.remote(tmp_path)
    counter = Counter.remote()
    count = counter.add.remote()
    assert aktis.wait([running, submitted, count], timeout=2)[0] == [], "impossible now, not for ever"
    until(lambda: "may come back or be replaced" in lone_b.run("status"), "status says what the tasks wait for")
    with pytest.raises(aktis.exceptions.TaskUnschedulableError, match='"b": 9'):
        get(slow.options(resources={"b": 9}).remote(tmp_path))
    (tmp_path / "gate").touch()
    lone_b.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    assert get(running) and get(submitted)
    assert get(count) == 1


@aktis.remote(num_cpus=0)
def small():
    return 7


@aktis.remote(num_cpus=0)
def holding_a_reference():
    # The reference is this worker's, which lives on for as long as somebody needs it.
    return [aktis.put(7)]


@aktis.remote(num_cpus=0, resources={"b": 1}, max_retries=-1)
def large(number):
    return bytes([number]) * 1_000_000


@pytest.mark.parametrize("maker", ["put", "task", "another process"])
def test_a_large_result_is_made_again_from_a_small_argument_that_nobody_refers_to(lone_b, maker):
    if maker == "another process":
        (argument,) = get(holding_a_reference.remote())
    else:
        argument = aktis.put(7) if maker == "put" else small.remote()
    result = large.remote(argument)
    aktis.wait([result], timeout=DEADLINE_S, fetch_local=False)
    del argument
    os.kill(lone_b.node_pid, signal.SIGKILL)
    until(lambda: len(living()) == 1, "the death of the node is noticed")
    lone_b.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    assert get(result) == b"\7" * 1_000_000


def test_what_no_node_ever_had_fails_unless_it_is_to_wait(cluster, tmp_path):
    cluster.start_head("--num-cpus", "1")
    aktis.init(address=cluster.address, log_to_driver=False, infeasible="wait")
    try:

        @aktis.remote(num_cpus=0)
        def nested():
            return aktis.get(slow.remote(tmp_path))

        references = [slow.remote(tmp_path), nested.remote(), Counter.remote().add.remote()]
        assert aktis.wait(references, timeout=3)[0] == []
        assert '"b": 1' in cluster.run("status")
        cluster.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
        assert get(references)[2] == 1
    finally:
        aktis.shutdown()


def test_dataset_that_no_node_can_run_waits_where_that_is_wanted(cluster):
    cluster.start_head("--num-cpus", "1")
    aktis.init(address=cluster.address, log_to_driver=False, infeasible="wait")
    try:
        rows = aktis.data.range(10).map_batches(lambda batch: batch, resources={"b": 1}, num_cpus=0)
        with ThreadPoolExecutor(1) as thread:
            counted = thread.submit(lambda: sum(row["id"] for row in rows.iter_rows()))
            until(lambda: '"b": 1' in cluster.run("status"), "status says what the dataset waits for")
            assert not counted.done()
            cluster.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
            assert counted.result(timeout=DEADLINE_S) == 45
    finally:
        aktis.shutdown()


def test_a_stopped_node_costs_one_restart_and_frees_what_was_given_up(lone_b, tmp_path):
    counter = Counter.options(max_restarts=1, max_task_retries=-1).remote()
    first = get(counter.pid.remote())
    running = slow.options(max_retries=3).remote(tmp_path, 1)
    until((tmp_path / "runs").exists, "the task runs")
    with stopped_until_dead(lone_b.node_pid):
        pass
    assert get(running)
    second = get(counter.pid.remote())
    assert second != first, "the head had given the first process up"
    assert get(counter.add.remote()) == 1, "one fault, one restart"
    del counter, running
    until(lambda: free("b") == 4, "all that the node lent is free")


DRIVER = """
    import os, sys
    import aktis
    import aktis._session.session

    @aktis.remote(num_cpus=0, resources={"b": 1})
    class Counter:
        def pid(self):
            return os.getpid()

    # A driver joins the raylet of the head where there is one. This one is to be elsewhere.
    aktis._session.session._find_raylet = lambda address, laptop: os.environ["NODE_SOCKET"]
    aktis.init(address=os.environ["CLUSTER"], log_to_driver=False)
    plain, detached = Counter.remote(), Counter.options(name="kept", lifetime="detached").remote()
    before = aktis.get([plain.pid.remote(), detached.pid.remote()])
    print("ready", flush=True)
    sys.stdin.readline()
    assert aktis.get([plain.pid.remote(), detached.pid.remote()], timeout=60) == before
    assert aktis.get(Counter.remote().pid.remote(), timeout=60) not in before
    print("goes on", flush=True)
"""


def test_a_driver_whose_node_stood_still_goes_on_with_its_actors(lone_b):
    (node,) = [node["NodeID"] for node in living() if "b" in node["Resources"]]
    (node_socket,) = lone_b.folder.glob(f"aktis-*/*/n{node[:8]}/raylet.sock")
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        env={**lone_b.environment, "CLUSTER": lone_b.address, "NODE_SOCKET": str(node_socket)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout.readline() == "ready\n"
        with stopped_until_dead(lone_b.node_pid):
            assert "its driver is away" in lone_b.run("status")
        driver.stdin.write("\n")
        driver.stdin.flush()
        assert driver.stdout.readline() == "goes on\n"
    finally:
        driver.kill()
        driver.wait(timeout=DEADLINE_S)
