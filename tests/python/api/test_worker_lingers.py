"""Processes that stay for what they own, and end when nobody needs it."""

import os
import signal
import time

import aktis
import pytest
from waiting import DEADLINE_S, is_running, until

pytestmark = pytest.mark.usefixtures("session")


@aktis.remote(max_calls=1)
def put_and_end(value):
    return os.getpid(), [aktis.put(value)]


def test_process_that_lingers_ends_with_the_last_reference():
    pid, refs = aktis.get(put_and_end.remote("kept"), timeout=DEADLINE_S)
    time.sleep(0.5)
    assert is_running(pid)
    assert aktis.get(refs[0], timeout=DEADLINE_S) == "kept"
    refs.clear()
    until(lambda: not is_running(pid), "the process ends")


def test_process_that_owes_nothing_ends_at_once():
    pid, refs = aktis.get(put_and_end.remote("dropped"), timeout=DEADLINE_S)
    del refs
    until(lambda: not is_running(pid), "the process ends")


def test_processes_that_linger_hold_no_cpu():
    held = [aktis.get(put_and_end.remote(number), timeout=DEADLINE_S) for number in range(12)]
    assert aktis.get([refs[0] for _, refs in held], timeout=DEADLINE_S) == list(range(12))
    until(lambda: aktis.available_resources().get("CPU") == 4, "all CPUs are free")


def test_nothing_lingers_beyond_its_session(no_session):
    aktis.init(num_cpus=2, log_to_driver=False)
    pid, refs = aktis.get(put_and_end.remote("kept"), timeout=DEADLINE_S)
    time.sleep(0.5)
    assert is_running(pid)
    aktis.shutdown()
    until(lambda: not is_running(pid), "the process ends")
    del refs


def test_actors_that_only_an_ended_actor_held_end_with_it():
    @aktis.remote
    class Inner:
        def pid(self):
            return os.getpid()

    @aktis.remote
    class Outer:
        def make(self):
            self.inner = Inner.remote()
            self.given = Inner.remote()
            return aktis.get([self.inner.pid.remote(), self.given.pid.remote()]), self.given

    outer = Outer.remote()
    (inner_pid, given_pid), given = aktis.get(outer.make.remote(), timeout=DEADLINE_S)
    del outer
    until(lambda: not is_running(inner_pid), "the inner actor ends")
    assert aktis.get(given.pid.remote(), timeout=DEADLINE_S) == given_pid


def test_stopped_worker_is_ended_by_a_cancellation_by_force(tmp_path):
    @aktis.remote
    def sleep(path):
        path.write_text(str(os.getpid()))
        time.sleep(600)

    task = sleep.remote(tmp_path / "pid")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the task runs")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGSTOP)
    aktis.cancel(task, force=True)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(task, timeout=DEADLINE_S)


def test_cancellation_by_force_of_a_child_spares_the_parent():
    @aktis.remote
    def child():
        time.sleep(600)

    @aktis.remote
    def parent():
        return [aktis.put("kept"), child.remote()]

    kept, running = aktis.get(parent.remote(), timeout=DEADLINE_S)
    time.sleep(1)
    aktis.cancel(running, force=True)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(running, timeout=DEADLINE_S)
    assert aktis.get(kept, timeout=DEADLINE_S) == "kept"


@aktis.remote(max_retries=0)
def lend_and_go_on(holder, is_stubborn):
    refs = [aktis.put("kept")]
    while True:
        try:
            if refs:
                # Also this can be interrupted.
                aktis.get(holder.hold.remote(refs, os.getpid()))
                refs = None
            time.sleep(600)
        except KeyboardInterrupt:
            if not is_stubborn:
                raise


@aktis.remote
class Holder:
    def __init__(self):
        self.refs = []
        self.owner = None

    def hold(self, refs, owner):
        self.refs, self.owner = refs, owner

    def hold_and_go_on(self, refs, path):
        self.refs = refs
        path.touch()
        time.sleep(2)

    def pid_of_owner(self):
        return self.owner

    def get(self):
        return aktis.get(self.refs[0], timeout=DEADLINE_S)


def test_worker_whose_task_is_cancelled_by_force_stays_for_what_it_lends():
    holder = Holder.remote()
    task = lend_and_go_on.remote(holder, is_stubborn=False)
    until(lambda: aktis.get(holder.pid_of_owner.remote()), "something is lent")
    aktis.cancel(task, force=True)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(task, timeout=DEADLINE_S)
    assert aktis.get(holder.get.remote(), timeout=DEADLINE_S) == "kept"


def test_worker_stays_for_what_a_call_took_along_that_is_under_way(tmp_path):
    @aktis.remote(max_retries=0)
    def lend(holder, path):
        aktis.get(holder.hold_and_go_on.remote([aktis.put("kept")], path))

    holder = Holder.remote()
    task = lend.remote(holder, tmp_path / "held")
    until((tmp_path / "held").exists, "something is lent")
    aktis.cancel(task, force=True, recursive=False)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(task, timeout=DEADLINE_S)
    assert aktis.get(holder.get.remote(), timeout=DEADLINE_S) == "kept"


def test_worker_that_has_to_be_killed_says_so_to_those_who_need_what_it_owned():
    holder = Holder.remote()
    task = lend_and_go_on.remote(holder, is_stubborn=True)
    until(lambda: aktis.get(holder.pid_of_owner.remote()), "something is lent")
    owner = aktis.get(holder.pid_of_owner.remote())
    aktis.cancel(task, force=True)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(task, timeout=DEADLINE_S)
    until(lambda: not is_running(owner), "the worker is killed")
    with pytest.raises(aktis.exceptions.OwnerDiedError, match="cancelled with force=True"):
        aktis.get(holder.get.remote(), timeout=DEADLINE_S)


def test_many_small_arguments_arrive():
    @aktis.remote
    def count(*values):
        return len(values)

    value = aktis.put(b"x" * 95_000)
    assert aktis.get(count.remote(*[value] * 400), timeout=DEADLINE_S) == 400


def test_call_under_way_fails_while_its_actor_is_being_restarted(tmp_path):
    @aktis.remote(max_restarts=1)
    class Slow:
        def __init__(self, path):
            if path.exists():
                time.sleep(600)
            path.touch()

        def pid(self):
            return os.getpid()

        def sleep(self, path):
            path.touch()
            time.sleep(600)

    actor = Slow.remote(tmp_path / "begun")
    pid = aktis.get(actor.pid.remote(), timeout=DEADLINE_S)
    call = actor.sleep.remote(tmp_path / "called")
    until((tmp_path / "called").exists, "the call is under way")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(aktis.exceptions.ActorUnavailableError):
        aktis.get(call, timeout=DEADLINE_S)


def test_wait_in_another_thread_raises_when_the_session_ends(no_session):
    import concurrent.futures

    aktis.init(num_cpus=1, log_to_driver=False)

    @aktis.remote
    def sleep():
        time.sleep(600)

    task = sleep.remote()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(aktis.wait, [task], timeout=DEADLINE_S)
        time.sleep(0.5)
        aktis.shutdown()
        with pytest.raises(aktis.exceptions.AktisError):
            waiting.result(timeout=DEADLINE_S)
