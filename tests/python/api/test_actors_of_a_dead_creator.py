"""An actor that is not detached ends with the process that made it, and what it held is free (Ray: fate sharing)."""

import os
import signal

import aktis
import pytest
from waiting import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("gpu_session")


@pytest.fixture(scope="module")
def gpu_session():
    """A laptop session with a logical GPU."""
    aktis.shutdown()
    aktis.init(num_cpus=4, num_gpus=1, log_to_driver=False)
    yield
    aktis.shutdown()


@aktis.remote(num_cpus=0, num_gpus=0.5)
class Worker:
    def pid(self):
        return os.getpid()


@aktis.remote(num_cpus=0)
class Coordinator:
    def start(self):
        """Makes one worker that has its GPU, and two of which only one finds room."""
        self.workers = [Worker.remote() for _ in range(3)]
        ready, _ = aktis.wait([worker.pid.remote() for worker in self.workers], num_returns=2)
        return aktis.get(ready), os.getpid()


@aktis.remote
def start():
    worker = Worker.remote()
    return [worker, aktis.get(worker.pid.remote())]


def get(references):
    return aktis.get(references, timeout=DEADLINE_S)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it ended before it was opened, or read
        return False


@pytest.mark.parametrize("way", ["crashed", "killed", "dropped"])
def test_workers_end_with_their_coordinator_and_waiting_ones_never_begin(way):
    coordinator = Coordinator.remote()
    workers, creator = get(coordinator.start.remote())
    if way == "crashed":
        os.kill(creator, signal.SIGKILL)
    elif way == "killed":
        aktis.kill(coordinator)
    else:
        del coordinator
    until(lambda: not any(map(is_alive, workers)), "the workers end")
    until(lambda: aktis.available_resources().get("GPU") == 1, "their GPU is free, and nobody else took it")
    next_one = Worker.options(num_gpus=1).remote()
    assert get(next_one.pid.remote()) not in workers


def test_an_actor_made_by_a_task_ends_with_its_last_handle():
    handle, pid = get(start.remote())
    assert is_alive(pid)
    assert get(handle.pid.remote()) == pid
    del handle
    until(lambda: not is_alive(pid), "the actor ends")


def test_a_detached_actor_outlives_its_creator():
    @aktis.remote
    class Maker:
        def make(self):
            worker = Worker.options(name="kept", lifetime="detached", num_gpus=0).remote()
            return aktis.get(worker.pid.remote())

    maker = Maker.remote()
    pid = get(maker.make.remote())
    aktis.kill(maker)
    with pytest.raises(aktis.exceptions.RayActorError):
        get(maker.make.remote())
    kept = aktis.get_actor("kept")
    assert get(kept.pid.remote()) == pid
    aktis.kill(kept)
