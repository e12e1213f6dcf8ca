"""Signals while the driver waits: Python's handlers run, and the session stays usable."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

DEADLINE_S = 60

SCRIPT = """
import os, signal, sys, threading, time
import aktis

# A test run that a shell started in the background inherits an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
aktis.init(num_cpus=1)

@aktis.remote
def sleep():
    time.sleep(1000)

@aktis.remote
def one():
    return 1

assert aktis.get(one.remote()) == 1
refs = [sleep.remote()]
{prepare}
try:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.{signal})).start()
    {wait}
except {error}:
    print("interrupted", flush=True)
aktis.cancel(refs[0], force=True)
assert aktis.get(one.remote()) == 1
print("usable", flush=True)
"""


def run(**parts):
    script = textwrap.dedent(SCRIPT).format(
        **{"signal": "SIGINT", "error": "KeyboardInterrupt", "prepare": "", **parts}
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "wait", ["aktis.get(refs)", "aktis.get(refs[0])", "aktis.wait(refs)", "refs[0].future().result()"]
)
def test_control_c_ends_a_wait_and_not_the_session(wait):
    assert run(wait=wait) == ["interrupted", "usable"]


def test_handler_of_the_user_runs_while_get_waits():
    prepare = "def stop(*_):\n    raise RuntimeError('told to stop')\nsignal.signal(signal.SIGUSR1, stop)"
    assert run(wait="aktis.get(refs)", signal="SIGUSR1", error="RuntimeError", prepare=prepare) == [
        "interrupted",
        "usable",
    ]


def test_signal_reaches_the_main_thread_while_another_thread_polls():
    prepare = "threading.Thread(target=lambda: aktis.wait(refs), daemon=True).start(); time.sleep(0.1)"
    assert run(wait="aktis.get(refs)", prepare=prepare) == ["interrupted", "usable"]


def test_signal_without_a_handler_does_not_end_a_wait():
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
    prepare = "threading.Timer(1, aktis.cancel, (refs[0],)).start()"
    assert run(wait="aktis.get(refs)", signal="SIGWINCH", error="aktis.exceptions.TaskCancelledError", prepare=prepare) == [
        "interrupted", "usable"
    ]  # fmt: skip
