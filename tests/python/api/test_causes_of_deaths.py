"""What a process died of is told when the parent of all workers, the zygote, has had no time to ask."""

import contextlib
import os
import pathlib
import signal
import threading

import aktis
import pytest
from aktis import exceptions
from waiting import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("session")

#: Longer than any death waited for the zygote before.
STOPPED_S = 3


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def stopped_for_a_while(pid):
    os.kill(pid, signal.SIGSTOP)
    going_on = threading.Timer(STOPPED_S, os.kill, (pid, signal.SIGCONT))
    going_on.start()
    try:
        yield
    finally:
        going_on.join()


@aktis.remote(max_retries=0)
def note_and_wait(path):
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    signal.pause()


@aktis.remote
class Waiting:
    def pid(self):
        return os.getpid()

    def wait(self):
        signal.pause()


def test_killed_workers_are_told_as_killed_while_the_zygote_is_stopped(tmp_path):
    actor = Waiting.remote()
    pids = [aktis.get(actor.pid.remote(), timeout=DEADLINE_S)]
    task, call = note_and_wait.remote(tmp_path / "pid"), actor.wait.remote()
    pids.append(int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the task")))
    zygotes = set(map(parent_of, pids))
    with stopped_for_a_while(*zygotes):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(exceptions.WorkerCrashedError, match="killed by signal 9"):
            aktis.get(task, timeout=DEADLINE_S)
        with pytest.raises(exceptions.ActorDiedError, match="killed by signal 9"):
            aktis.get(call, timeout=DEADLINE_S)
