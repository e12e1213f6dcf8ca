"""Who waits for a node has a turn there, however busily others use it."""

import time

import aktis
import pytest
from waiting import DEADLINE_S, until


@aktis.remote(num_cpus=0, resources={"b": 1})
def use_b():
    return "used"


@aktis.remote(num_cpus=0, resources={"b": 1})
class HoldsB:
    def use(self):
        return "used"


@aktis.remote(num_cpus=0, resources={"p": 1})
class Parent:
    def __init__(self):
        pass

    def has_begun(self):
        return True

    def wait_for_b(self, kind):
        return aktis.get(use_b.remote() if kind == "task" else HoldsB.remote().use.remote())


@pytest.mark.parametrize("kind", ["task", "actor"])
def test_work_of_one_node_gets_a_turn_on_another_that_a_third_keeps_asking_for(cluster, kind):
    cluster.start_head("--num-cpus", "0")
    cluster.start_node("--num-cpus", "1", "--resources", '{"p": 1}')
    cluster.start_node("--num-cpus", "1", "--resources", '{"b": 1}')
    aktis.init(address=cluster.address, log_to_driver=False)
    try:
        parent = Parent.remote()
        assert aktis.get([parent.has_begun.remote(), use_b.remote()], timeout=DEADLINE_S) == [True, "used"]
        child = parent.wait_for_b.remote(kind)

        def has_had_its_turn():
            # Soon enough for the driver to keep its worker.
            aktis.wait([use_b.remote()], timeout=1)
            time.sleep(0.05)
            return aktis.wait([child], timeout=0)[0]

        until(has_had_its_turn, "the other node's work has its turn")
        assert aktis.get(child) == "used"
    finally:
        aktis.shutdown()
