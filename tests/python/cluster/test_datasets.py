"""Datasets whose nodes die: blocks are made again, and every row arrives once."""

import os
import signal
import threading
import time

import aktis
import aktis.data
import pytest
from waiting import DEADLINE_S, until

ROWS = 4000


@pytest.fixture
def two_nodes(cluster):
    """A head with resource ``a`` and a node with resource ``b``, and the path of a second one; this process is the driver."""
    cluster.start_head("--num-cpus", "1", "--resources", '{"a": 4}')
    cluster.node_pid = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    aktis.init(address=cluster.address, log_to_driver=False)
    yield cluster
    aktis.shutdown()


def replace_node(cluster, by=signal.SIGKILL):
    """Another node takes the place of the one with resource ``b``, which is lost by this signal."""
    pid = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    os.kill(cluster.node_pid, by)
    until(lambda: sum(node["Alive"] for node in aktis.nodes()) == 2, "the death of the node is noticed")
    return pid


def made(log):
    """A step that runs on the second node and makes blocks too large to travel with their calls."""

    def make(batch):
        with open(log, "a") as file:
            file.write(f"{len(batch['id'])}\n")
        return {"id": batch["id"], "data": [bytes(1000)] * len(batch["id"])}

    ds = aktis.data.range(ROWS, override_num_blocks=8)
    return ds.map_batches(make, batch_size=100, num_cpus=0, resources={"b": 1})


def lines(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_dataset_of_two_stages_survives_the_node_of_the_first(two_nodes, tmp_path):
    gate, log = tmp_path / "gate", tmp_path / "log"

    def held(batch):
        deadline = time.monotonic() + DEADLINE_S
        while not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"id": batch["id"]}

    ds = made(log).map_batches(held, num_cpus=0, resources={"a": 1})
    rows = []
    consumer = threading.Thread(target=lambda: rows.extend(row["id"] for row in ds.take_all()))
    consumer.start()
    until(lambda: lines(log) == ROWS // 100, "all blocks of the first stage are made")
    replace_node(two_nodes)
    gate.touch()
    consumer.join(DEADLINE_S)
    assert rows == list(range(ROWS))
    assert lines(log) > ROWS // 100, "blocks were made again"


def test_sort_by_ranges_survives_the_node_of_the_rows(two_nodes, tmp_path):
    gate, log = tmp_path / "gate", tmp_path / "log"

    def make(batch):
        with open(log, "a") as file:
            file.write(f"{batch['id'][0]}\n")
        deadline = time.monotonic() + DEADLINE_S
        while 3000 in batch["id"] and not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"id": batch["id"], "data": [bytes(4000)] * len(batch["id"])}

    ds = aktis.data.range(ROWS, override_num_blocks=8)
    ds = ds.map_batches(make, batch_size=100, num_cpus=0, resources={"b": 1}).sort("id", descending=True)
    rows = []
    consumer = threading.Thread(target=lambda: rows.extend(row["id"] for row in ds.take_all()))
    consumer.start()
    until(
        lambda: log.exists() and "3000" in log.read_text().split(), "the first blocks are made, and wait for the last"
    )
    replace_node(two_nodes)
    gate.touch()
    consumer.join(DEADLINE_S)
    assert rows == list(range(ROWS - 1, -1, -1))
    assert "Sort(bounds)" in ds.stats()
    assert log.read_text().split().count("0") > 1, "a block that was there already was made again"


def test_nodes_that_are_lost_are_not_the_fault_of_the_rows_that_they_worked_on(two_nodes, tmp_path):
    """Two processes that died in calls with a row alone would have it left out, if they had not died with their nodes."""
    gate, log = tmp_path / "gate", tmp_path / "log"

    def held(batch):
        if 7 in batch["id"]:
            with open(log, "a") as file:
                file.write("called\n")
            deadline = time.monotonic() + DEADLINE_S
            while not gate.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        return batch

    ds = aktis.data.range(20, override_num_blocks=1)
    ds = ds.map_batches(held, batch_size=1, num_cpus=0, resources={"b": 1}, on_error="dead_letter")
    rows = []
    consumer = threading.Thread(target=lambda: rows.extend(row["id"] for row in ds.take_all()))
    consumer.start()
    for death in range(1, 4):
        until(lambda: lines(log) == death, "the row is called")  # noqa: B023
        # A daemon that only stops answers nobody, and leaves connections as they are: the head is the one to tell of the actor's death.
        two_nodes.node_pid = replace_node(two_nodes, signal.SIGSTOP)
    gate.touch()
    consumer.join(DEADLINE_S)
    for pid in two_nodes.daemons():
        os.kill(pid, signal.SIGCONT)
    assert rows == list(range(20))
    assert ds.dead_letters().count() == 0


def test_rows_that_were_made_and_not_read_survive_their_node(two_nodes, tmp_path):
    log = tmp_path / "log"
    batches = iter(made(log).iter_batches(batch_size=500))
    ids = list(next(batches)["id"])
    until(lambda: lines(log) == ROWS // 100, "all blocks are made")
    replace_node(two_nodes)
    for batch in batches:
        ids.extend(batch["id"])
    assert ids == list(range(ROWS))


def test_node_that_comes_while_a_dataset_runs_gets_work(two_nodes, tmp_path):
    """Both workers of the first node are at work until the rows are worked on elsewhere too."""
    log = tmp_path / "log"

    def work(batch):
        with open(log, "a") as file:
            file.write(f"{aktis.get_runtime_context().get_node_id()}\n")
        deadline = time.monotonic() + DEADLINE_S
        while len(set(log.read_text().splitlines())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return {"id": batch["id"]}

    ds = aktis.data.range(ROWS, override_num_blocks=16)
    ds = ds.map_batches(work, batch_size=50, num_cpus=0, resources={"b": 1})
    rows = []
    consumer = threading.Thread(target=lambda: rows.extend(row["id"] for row in ds.take_all()))
    consumer.start()
    until(lambda: lines(log) == 2, "all workers that there is room for are at work")
    two_nodes.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    consumer.join(2 * DEADLINE_S)
    assert rows == list(range(ROWS))
    assert len(set(log.read_text().splitlines())) == 2
