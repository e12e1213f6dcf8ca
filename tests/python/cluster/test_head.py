"""The head goes and comes back: what it knew, who may join it, and what user code sees of its token."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import aktis
import pytest
from aktis import _aktis
from waiting import DEADLINE_S, until

from .conftest import processes_with


@aktis.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = []

    def keep(self, value):
        self.kept.append(value)
        return os.getpid(), self.kept


@pytest.fixture
def head_and_node(cluster):
    """A head, and a node with resource ``b``; nobody has joined."""
    cluster.start_head("--num-cpus", "1")
    (cluster.head_pid,) = cluster.daemons()
    cluster.start_node("--num-cpus", "1", "--resources", '{"b": 4}')
    yield cluster
    aktis.shutdown()


def join(cluster):
    aktis.init(address=cluster.address, log_to_driver=False, namespace="n")


def end_head(cluster, how):
    os.kill(cluster.head_pid, how)
    until(lambda: cluster.head_pid not in cluster.daemons(), "the head has ended")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_detached_actor_outlives_its_head_however_that_ends(head_and_node, how):
    join(head_and_node)
    keeper = Keeper.options(name="keeper", lifetime="detached", resources={"b": 1}).remote()
    before = aktis.get(keeper.keep.remote(1), timeout=DEADLINE_S)
    aktis.shutdown()
    end_head(head_and_node, how)
    head_and_node.start_head_again("--num-cpus", "1")
    # At once: the head that ended is not taken for the one that runs.
    join(head_and_node)
    again = aktis.get_actor("keeper")
    assert aktis.get(again.keep.remote(2), timeout=DEADLINE_S) == (before[0], [1, 2])


def test_stop_keeps_the_tables_and_forget_removes_them(cluster):
    cluster.start_head("--num-cpus", "1")
    assert "stay in" in cluster.run("stop")
    assert list(cluster.folder.glob("aktis-*/head-*.redb")) != []
    assert "Forgot" in cluster.run("stop", "--forget")
    assert list(cluster.folder.glob("aktis-*/*")) == []


def test_user_code_sees_no_token(head_and_node):
    join(head_and_node)

    @aktis.remote(num_cpus=0)
    def environment():
        return dict(os.environ)

    tokens = {path.read_text() for path in head_and_node.folder.glob("aktis-*/*/token")}
    assert len(tokens) == 1
    seen = aktis.get([environment.options(resources=needs).remote() for needs in ({}, {"b": 1})], timeout=DEADLINE_S)
    for variables in seen:
        assert "AKTIS_TOKEN" not in variables
        assert not tokens & set(variables.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_driver_of_another_user_is_not_let_in(cluster):
    cluster.start_head("--num-cpus", "1")
    # A fork, not a fresh interpreter, and nothing that imports: another user may not be able to read this one's files.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            _aktis.find_node(cluster.address)
            os.write(writer, b"it was let in")
        except ConnectionError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        message = answer.read().decode()
    os.waitpid(child, 0)
    assert "not served by a process of this user" in message


def test_a_driver_that_was_killed_while_it_spilled_leaves_nothing(cluster, tmp_path):
    spill = tmp_path / "spill"
    driver = """
        import aktis, numpy, os, signal
        aktis.init(num_cpus=1, object_store_memory=64 << 20)
        kept = [aktis.put(numpy.zeros(8 << 20, dtype=numpy.uint8)) for _ in range(16)]
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**cluster.environment, "AKTIS_SPILL_DIR": str(spill)}
    command = [sys.executable, "-c", textwrap.dedent(driver)]
    done = subprocess.run(command, env=environment, timeout=DEADLINE_S, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not processes_with(str(cluster.folder)), "zygote and workers are gone")
    # Whatever the zygote left is swept by the next start.
    subprocess.run(
        [sys.executable, "-c", "import aktis; aktis.init(num_cpus=1)"],
        env=environment,
        timeout=DEADLINE_S,
        check=True,
    )
    assert [path for path in pathlib.Path(spill).rglob("*") if path.is_file()] == []
