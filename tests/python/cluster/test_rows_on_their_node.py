"""Rows that lie in the stores of several nodes: they are worked on where they lie, and meet without a loss."""

import os
import signal
import threading
import time

import aktis
import aktis.data
import numpy
import pytest
from waiting import DEADLINE_S, until

#: With some 1.2 MB in each block: shorter ones may be put together.
ROWS = 19_200
BLOCKS = 16


@pytest.fixture
def two_nodes(cluster):
    """This process is the driver of a head and a node with a processor each."""
    cluster.start_head("--num-cpus", "1")
    cluster.start_node("--num-cpus", "1")
    aktis.init(address=cluster.address, log_to_driver=False)
    yield cluster
    aktis.shutdown()


def node_id():
    return aktis.get_runtime_context().get_node_id()


def noted(log, **what):
    """Notes a call, and returns when both nodes have had one."""
    with open(log, "a") as file:
        file.write(" ".join([node_id(), *what.values()]) + "\n")
    deadline = time.monotonic() + DEADLINE_S
    while len({line.split()[0] for line in log.read_text().splitlines()}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)


def made(log):
    """Rows in blocks of both nodes, each of which knows where it was made."""

    def make(batch):
        noted(log)
        data = numpy.random.default_rng(int(batch["id"][0])).integers(
            0, 256, (len(batch["id"]), 992), dtype=numpy.uint8
        )
        return {"id": batch["id"], "data": data, "made": [node_id()] * len(data)}

    return aktis.data.range(ROWS, override_num_blocks=BLOCKS).map_batches(make, batch_size=None).materialize()


@pytest.mark.usefixtures("two_nodes")
def test_workers_get_the_blocks_of_their_node_first(tmp_path, monkeypatch):
    # In order, a worker passes over a few blocks alone: one whose own come late begins with one from elsewhere.
    monkeypatch.setattr(aktis.data.DataContext.get_current().execution_options, "preserve_order", False)
    log = tmp_path / "log"

    def work(batch):
        (where,) = set(batch["made"])
        noted(log, made=str(where))
        return {"id": batch["id"]}

    rows = made(tmp_path / "made")
    ids = [row["id"] for row in rows.map_batches(work, batch_size=None).take_all()]
    assert sorted(ids) == list(range(ROWS))
    calls = [line.split() for line in log.read_text().splitlines()]
    for node in {node for node, _ in calls}:
        are_own = [made == node for worker, made in calls if worker == node]
        # Who has nothing left on its node helps the other one.
        assert are_own[0], calls
        assert are_own == sorted(are_own, reverse=True), calls


@pytest.mark.usefixtures("two_nodes")
def test_shuffle_of_rows_on_two_nodes_survives_a_worker(tmp_path):
    rows = made(tmp_path / "made")
    expected = [row["id"] for row in rows.random_shuffle(seed=7).select_columns(["id"]).take_all()]
    assert sorted(expected) == list(range(ROWS))
    assert expected != sorted(expected)
    shuffled = []
    consumer = threading.Thread(target=lambda: shuffled.extend(rows.random_shuffle(seed=7).take_all()))
    consumer.start()
    workers = []
    until(lambda: workers.extend(stage_workers()) or workers, "a worker is there")
    os.kill(workers[0], signal.SIGKILL)
    consumer.join(DEADLINE_S)
    assert [row["id"] for row in shuffled] == expected
    for row in shuffled[::400]:
        first = row["id"] // (ROWS // BLOCKS) * (ROWS // BLOCKS)
        data = numpy.random.default_rng(first).integers(0, 256, (ROWS // BLOCKS, 992), dtype=numpy.uint8)
        assert (row["data"] == data[row["id"] - first]).all()


def stage_workers():
    from aktis import _aktis

    actors = [actor for actor in _aktis.list_actors() if actor["class_name"] == "aktis.data.StageWorker"]
    return [actor["pid"] for actor in actors if actor["state"] == "ALIVE" and actor["pid"]]
