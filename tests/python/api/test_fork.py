"""Fork in user code: the child lets go of its parent's session, and the parent does not notice."""

import atexit
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import aktis
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("session")

DEADLINE_S = 30


def until(condition, what="the condition"):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.01)


def in_child(function):
    """Runs a function in a fork; its return value is the exit status (0 for None)."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = function() or 0
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


@aktis.remote
def square(x):
    return x * x


@aktis.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count


def test_handles_that_end_in_a_child_live_on_in_the_parent():
    ref, large = aktis.put({"small": 1}), aktis.put(np.arange(1_000_000))
    array = aktis.get(large)
    counter = Counter.remote()
    assert aktis.get(counter.add.remote(), timeout=DEADLINE_S) == 1
    held = [ref, large, array, counter]
    del ref, large, array, counter

    assert status_of(in_child(held.clear)) == 0
    ref, large, array, counter = held
    assert aktis.get(ref) == {"small": 1}
    assert aktis.get(counter.add.remote(), timeout=DEADLINE_S) == 2
    assert aktis.get(large)[-1] == array[-1] == 999_999


def test_every_call_in_a_child_says_what_to_do_instead():
    ref, counter, bound = aktis.put(1), Counter.remote(), square
    aktis.get(bound.remote(1), timeout=DEADLINE_S)
    stream = aktis.remote(lambda: iter(range(3))).options(num_returns="streaming").remote()
    calls = [
        lambda: aktis.get(ref),
        lambda: aktis.put(1),
        lambda: aktis.wait([ref]),
        lambda: aktis.cancel(ref),
        lambda: bound.remote(2),
        lambda: counter.add.remote(),
        lambda: aktis.kill(counter),
        lambda: next(stream),
        lambda: ref.is_ready(),
        lambda: ref.future(),
        aktis.init,
        aktis.nodes,
        lambda: aktis.get_actor("anybody"),
    ]

    def check():
        for number, call in enumerate(calls):
            try:
                call()
            except RuntimeError as error:
                if "forked" not in str(error) or "spawn" not in str(error):
                    return number + 1
            else:
                return number + 1
        return 0

    assert status_of(in_child(check)) == 0
    aktis.get(list(stream), timeout=DEADLINE_S)


@pytest.mark.parametrize("ends", ["at once", "exit handlers"])
def test_forks_while_threads_call_change_no_result(ends):
    stop = threading.Event()
    failures = []
    counters = [Counter.remote() for _ in range(3)]

    def call(counter):
        try:
            expected = 0
            while not stop.is_set():
                refs = [counter.add.remote() for _ in range(20)]
                squares = [square.remote(i) for i in range(10)]
                assert aktis.get(refs, timeout=DEADLINE_S) == list(range(expected + 1, expected + 21))
                assert aktis.get(squares, timeout=DEADLINE_S) == [i * i for i in range(10)]
                expected += 20
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=call, args=(counter,)) for counter in counters]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                if ends == "exit handlers":
                    atexit._run_exitfuncs()
                    counters.clear()
                os._exit(0)
            assert status_of(pid) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_script_whose_child_ends_normally_goes_on():
    script = """
        import os, sys, aktis
        aktis.init(num_cpus=2)
        ref = aktis.put(41)
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            print(aktis.get(aktis.remote(lambda x: x + 1).remote(ref), timeout=30))
        # Parent and child both run off the end of the script.
    """
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["42"]


def double(x):
    return 2 * x


def test_a_pool_of_forked_processes_works_beside_a_session():
    refs = [square.remote(i) for i in range(100)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(double, range(50)) == [2 * i for i in range(50)]
        assert aktis.get(refs, timeout=DEADLINE_S) == [i * i for i in range(100)]
        assert pool.map(double, range(50)) == [2 * i for i in range(50)]


def test_a_task_may_use_a_pool():
    @aktis.remote
    def pooled():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2]), aktis.get(aktis.put("still connected"))

    assert aktis.get(pooled.remote(), timeout=DEADLINE_S) == ([1, 2], "still connected")


def test_only_the_parent_answers_when_a_child_comes_back_out_of_a_task():
    @aktis.remote(max_retries=0)
    def forks(value):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return value
        return "from the child"

    assert aktis.get([forks.remote(i) for i in range(4)], timeout=DEADLINE_S) == [0, 1, 2, 3]


def test_a_child_that_lives_on_does_not_hold_a_killed_drivers_session(tmp_path):
    script = f"""
        import os, time, aktis
        aktis.init(num_cpus=1, log_to_driver=False)
        worker = aktis.get(aktis.remote(os.getpid).remote())
        folder = aktis.get_runtime_context()._get()["session_dir"]
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        open({str(tmp_path / "facts.new")!r}, "w").write(f"{{worker}} {{child}} {{folder}}")
        os.rename({str(tmp_path / "facts.new")!r}, {str(tmp_path / "facts")!r})
        time.sleep(60)
    """
    driver = subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)])
    try:
        until((tmp_path / "facts").exists, "the driver")
        worker, child, folder = (tmp_path / "facts").read_text().split()
        assert pathlib.Path(folder).exists()
        driver.kill()
        driver.wait()
        until(lambda: not pathlib.Path(f"/proc/{worker}").exists(), "the worker's end")
        until(lambda: not pathlib.Path(folder).exists(), "the session's folder to go")
        assert pathlib.Path(f"/proc/{child}").exists()
        os.kill(int(child), signal.SIGKILL)
    finally:
        driver.kill()
