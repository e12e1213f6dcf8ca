"""Floors: what the same costs without any runtime, in bare Python processes and the kernel."""

import contextlib
import os
import pathlib
import pickle
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "core"), str(HERE.parent / "growth")]

import bare
import core_bench

MESSAGE = b"0123456789"

#: As the echo of the core benchmark, but it never sleeps.
POLLING_ECHO = """
import os, pickle, socket, sys
end = socket.socket(fileno=int(sys.argv[1]))
end.setblocking(False)
while True:
    try:
        message = end.recv(4096)
    except BlockingIOError:
        os.sched_yield()
        continue
    if not message:
        break
    end.sendall(pickle.dumps(pickle.loads(message), protocol=5))
"""


def of_core(name):
    """A floor of the core benchmark, in its unit."""
    bench = core_bench.Bench("none", 1, 1.0)
    with bench.cleanup:
        window = core_bench.ROWS[name].set_up(bench)
        return statistics.median(window() for _ in range(3))


def polling_round_trip_us(seconds=1.0):
    """A round trip between two bare Python processes that poll without sleeping."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", POLLING_ECHO, str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]), ours:
        theirs.close()
        ours.setblocking(False)
        windows = [_polled(ours, seconds) for _ in range(3)]
    return statistics.median(windows)


def _polled(end, seconds):
    done, start = 0, time.perf_counter()
    while True:
        end.sendall(pickle.dumps(MESSAGE, protocol=5))
        while True:
            try:
                pickle.loads(end.recv(4096))
                break
            except BlockingIOError:
                os.sched_yield()
        done += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / done * 1e6


def messages_in_flight_us(count=20_000):
    """A message to a bare process and back, a thousand on their way at once, each with a `send` of its own."""
    with bare.BareProcesses() as processes:
        processes.grow(1)
        return _per_call_us(lambda: processes.all_at_once(1, count)) / count


def dict_us(count=100_000):
    """An object as a key of a dict, made and dropped; and a look into the dict."""
    table = {}

    def make():
        for number in range(count):
            table[bare.Entry()] = number
            table.popitem()

    key = bare.Entry()
    known = {key: 1}

    def look():
        for _ in range(count):
            known[key]

    return _per_call_us(make) / count, _per_call_us(look) / count


def start_ms():
    """Milliseconds of what a start is made of: an interpreter that does nothing, a fork of one, a fork and an exec."""
    return {
        "python_ms": _per_call_us(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 9) / 1e3,
        "fork_ms": _per_call_us(_fork_and_wait, 9) / 1e3,
        "exec_ms": _per_call_us(lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0), 9) / 1e3,
    }


def _fork_and_wait():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _per_call_us(call, times=3):
    windows = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        windows.append(time.perf_counter() - start)
    return statistics.median(windows) * 1e6


def measure():
    """All floors, before there is a session."""
    dict_put_us, dict_get_us = dict_us()
    with contextlib.redirect_stdout(sys.stderr):
        return {
            "round_trip_us": 1e6 / of_core("floor_round_trip"),
            "polling_round_trip_us": polling_round_trip_us(),
            "in_flight_us": messages_in_flight_us(),
            "dict_put_us": dict_put_us,
            "dict_get_us": dict_get_us,
            "memcpy_ms": core_bench.LARGE_BYTES / 1e6 / of_core("floor_memcpy"),
            **start_ms(),
        }
