"""Calls, objects and start-up: one file that runs unchanged on Aktis and on Ray.

    python core_bench.py --system aktis|ray [--rows tasks_sync,put_small] [--windows 3] [--window-seconds 1]
    python core_bench.py --system aktis --rows tasks_sync --stepped     # a window for each line of standard input

Prints one JSON object per line: `{"begin": row}` when a row starts (so that a parent can time it out), then
`{"row": ..., "values": [...]}` or `{"row": ..., "error": ...}`. The parent (`compare.py`) runs it for both systems,
takes medians and prints the table. Stepped, each window is a line `{"row": ..., "value": ...}`, so that two builds can
take turns within one bad second of the machine (`builds/compare.py`).

Imports nothing heavy at the top: the parent reads the table of rows from here in its own interpreter.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable

LARGE_BYTES = 200_000_000
IN_FLIGHT = 1000

COLD_SCRIPT = """
import {system} as ray
ray.init(num_cpus={cpus})
@ray.remote
def f(x):
    return x + 1
assert ray.get(f.remote(1)) == 2
ray.shutdown()
"""

INIT_SCRIPT = """
import time
import {system} as ray
start = time.perf_counter()
ray.init(num_cpus={cpus})
print("init_seconds", time.perf_counter() - start)
ray.shutdown()
"""

ECHO_SCRIPT = """
import pickle, socket, sys
end = socket.socket(fileno=int(sys.argv[1]))
while True:
    message = end.recv(4096)
    if not message:
        break
    end.sendall(pickle.dumps(pickle.loads(message), protocol=5))
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured question. `window` of the set-up row returns one value per call."""

    name: str
    title: str
    unit: str  # "/s", "GB/s" (more is better) or "s" (less is better)
    set_up: Callable
    needs_session: bool
    target_ratio: float | None  # times better than Ray
    most_s: float | None  # a row in seconds: no longer than this, whatever Ray takes
    limit_s: int

    @property
    def is_time(self):
        return self.unit == "s"


ROWS: dict[str, Row] = {}


def row(title, unit, target=None, *, most_s=None, needs_session=True, limit_s=120):
    """Declares a row: the decorated function sets it up and returns the callable that measures one window."""

    def declare(set_up):
        name = set_up.__name__
        ROWS[name] = Row(name, title, unit, set_up, needs_session, target, most_s, limit_s)
        return set_up

    return declare


@dataclasses.dataclass
class Bench:
    """What a row needs: the system, its remote definitions, and how long a window is."""

    system: str
    cpus: int
    window_s: float
    ray: types.ModuleType | None = None
    remote: types.SimpleNamespace | None = None
    cleanup: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    def rate(self, step, count=1):
        """A window that repeats `step` for its length and returns how many of its `count` things per second."""

        def window():
            done, start = 0, time.perf_counter()
            while True:
                step()
                done += count
                elapsed = time.perf_counter() - start
                if elapsed >= self.window_s:
                    return done / elapsed

        return window

    def seconds(self, step):
        """A window that runs `step` once and returns its seconds."""

        def window():
            start = time.perf_counter()
            step()
            return time.perf_counter() - start

        return window

    def actor(self, cls, *args):
        """An actor that is up, and is killed when the row ends."""
        handle = cls.remote(*args)
        self.ray.get(handle.nothing.remote())
        self.cleanup.callback(self.ray.kill, handle)
        return handle

    def script(self, text):
        return [sys.executable, "-c", text.format(system=self.system, cpus=self.cpus)]


def define(ray):
    """The remote functions and classes of all rows."""

    @ray.remote
    def nothing(*_args):
        return None

    @ray.remote(num_cpus=0)
    class Actor:
        def nothing(self, *_args):
            return None

    @ray.remote(num_cpus=0)
    class AsyncActor:
        async def nothing(self, *_args):
            return None

    @ray.remote(num_cpus=0)
    class Caller:
        def nothing(self):
            return None

        def call(self, actors, count):
            ray.get([actors[i % len(actors)].nothing.remote() for i in range(count)])

    return types.SimpleNamespace(nothing=nothing, Actor=Actor, AsyncActor=AsyncActor, Caller=Caller)


# ---- start-up: each window is a process of its own, before this process has a session ----


@row("cold process: import, init, one task, shutdown, out", "s", 30, most_s=0.35, needs_session=False)
def cold_process(bench):
    return bench.seconds(lambda: subprocess.run(bench.script(COLD_SCRIPT), check=True, capture_output=True))


@row("init()", "s", 60, needs_session=False)
def init(bench):
    def window():
        done = subprocess.run(bench.script(INIT_SCRIPT), check=True, capture_output=True, text=True)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("init_seconds")]
        return float(line.split()[1])

    return window


@row("floor: two Python processes, pickled 10-byte messages over a socket pair", "/s", needs_session=False)
def floor_round_trip(bench):
    import pickle

    ours, theirs = socket.socketpair()
    child = subprocess.Popen([sys.executable, "-c", ECHO_SCRIPT, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    bench.cleanup.callback(child.wait)
    bench.cleanup.callback(ours.close)

    def round_trip():
        ours.sendall(pickle.dumps(b"0123456789", protocol=5))
        pickle.loads(ours.recv(4096))

    round_trip()
    return bench.rate(round_trip)


# ---- tasks ----


@row("tasks, one at a time", "/s", 50)
def tasks_sync(bench):
    return bench.rate(lambda: bench.ray.get(bench.remote.nothing.remote()))


@row("tasks, 1000 in flight", "/s", 60)
def tasks_async(bench):
    return bench.rate(lambda: bench.ray.get([bench.remote.nothing.remote() for _ in range(IN_FLIGHT)]), IN_FLIGHT)


@row("10 k tasks queued at once", "s", 50)
def tasks_queued_10k(bench):
    return bench.seconds(lambda: bench.ray.get([bench.remote.nothing.remote() for _ in range(10_000)]))


@row("1 k references put and given to one task", "s", 20)
def args_1k_refs(bench):
    return bench.seconds(lambda: bench.ray.get(bench.remote.nothing.remote(*[bench.ray.put(i) for i in range(1000)])))


@row("1 k references, put before, given to one task", "s")
def args_1k_ready_refs(bench):
    refs = [bench.ray.put(i) for i in range(1000)]
    return bench.seconds(lambda: bench.ray.get(bench.remote.nothing.remote(*refs)))


# ---- actors ----


@row("1:1 actor, one call at a time", "/s", 25)
def actor_sync(bench):
    actor = bench.actor(bench.remote.Actor)
    return bench.rate(lambda: bench.ray.get(actor.nothing.remote()))


@row("1:1 actor, 1000 in flight", "/s", 50)
def actor_async(bench):
    actor = bench.actor(bench.remote.Actor)
    return bench.rate(lambda: bench.ray.get([actor.nothing.remote() for _ in range(IN_FLIGHT)]), IN_FLIGHT)


@row("1:1 async actor, one call at a time", "/s", 20)
def async_actor_sync(bench):
    actor = bench.actor(bench.remote.AsyncActor)
    return bench.rate(lambda: bench.ray.get(actor.nothing.remote()))


@row("1:1 async actor, 1000 in flight", "/s", 30)
def async_actor_async(bench):
    actor = bench.actor(bench.remote.AsyncActor)
    return bench.rate(lambda: bench.ray.get([actor.nothing.remote() for _ in range(IN_FLIGHT)]), IN_FLIGHT)


@row("2:2 actors, each caller 1000 in flight", "/s", 30)
def actors_2_to_2(bench):
    actors = [bench.actor(bench.remote.Actor) for _ in range(2)]
    callers = [bench.actor(bench.remote.Caller) for _ in range(2)]
    return bench.rate(
        lambda: bench.ray.get([caller.call.remote(actors, IN_FLIGHT) for caller in callers]), IN_FLIGHT * len(callers)
    )


@row("1:1 actor, 80 kB numpy argument, 100 in flight", "/s", 15)
def actor_80kb(bench):
    import numpy

    actor, array = bench.actor(bench.remote.Actor), numpy.random.default_rng(0).random(10_000)
    return bench.rate(lambda: bench.ray.get([actor.nothing.remote(array) for _ in range(100)]), 100)


@row("20 actors started and called", "s", 40)
def actors_20(bench):
    def start_and_call():
        actors = [bench.remote.Actor.remote() for _ in range(20)]
        bench.ray.get([actor.nothing.remote() for actor in actors])
        alive.extend(actors)

    alive = []
    measure = bench.seconds(start_and_call)

    def window():
        value = measure()
        while alive:
            bench.ray.kill(alive.pop())
        return value

    return window


# ---- objects ----


@row("put small", "/s", 80)
def put_small(bench):
    return bench.rate(lambda: bench.ray.put(0))


@row("get small", "/s", 40)
def get_small(bench):
    ref = bench.ray.put(0)
    return bench.rate(lambda: bench.ray.get(ref))


def random_bytes():
    import numpy

    return numpy.random.default_rng(0).integers(0, 256, LARGE_BYTES, dtype=numpy.uint8)


@row("floor: memcpy of 200 MB into a warm shared mapping", "GB/s", needs_session=False)
def floor_memcpy(bench):
    import mmap

    import numpy

    source, file = random_bytes(), os.memfd_create("core-bench")
    os.ftruncate(file, LARGE_BYTES)
    mapping = mmap.mmap(file, LARGE_BYTES)
    os.close(file)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)  # as the object store asks for
    target = numpy.frombuffer(mapping, dtype=numpy.uint8)
    numpy.copyto(target, source)  # faults every page in
    return bench.rate(lambda: numpy.copyto(target, source), LARGE_BYTES / 1e9)


@row("put 200 MB random bytes", "GB/s", 2.5)
def put_200mb(bench):
    data = random_bytes().tobytes()
    return bench.rate(lambda: bench.ray.put(data), LARGE_BYTES / 1e9)


@row("put 200 MB numpy", "GB/s", 2.5)
def put_200mb_numpy(bench):
    data = random_bytes()
    return bench.rate(lambda: bench.ray.put(data), LARGE_BYTES / 1e9)


@row("get 200 MB numpy", "/s", 10)
def get_200mb_numpy(bench):
    ref = bench.ray.put(random_bytes())
    return bench.rate(lambda: bench.ray.get(ref)[-1])


@row("wait on 1000 references, one by one", "/s", 30)
def wait_1k_refs(bench):
    def drain():
        pending = [bench.remote.nothing.remote() for _ in range(1000)]
        while pending:
            _, pending = bench.ray.wait(pending)

    return bench.rate(drain)


@row("get an object of 10 k references", "/s", 20)
def get_10k_refs(bench):
    inner = [bench.ray.put(i) for i in range(10_000)]
    ref = bench.ray.put(inner)
    window = bench.rate(lambda: bench.ray.get(ref))
    bench.cleanup.callback(inner.clear)
    return window


# ---- the loop over the rows ----


class RowTimeout(Exception):
    """A row ran longer than its limit."""


@contextlib.contextmanager
def time_limit(seconds):
    def expire(_signal, _frame):
        raise RowTimeout(f"ran longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def open_session(bench):
    """Starts the session of the rows that need one, with its workers warm."""
    bench.ray = importlib.import_module(bench.system)
    bench.ray.init(num_cpus=bench.cpus)
    bench.remote = define(bench.ray)
    bench.ray.get([bench.remote.nothing.remote() for _ in range(100)])


def measure(bench, chosen, steps):
    """Yields the values of a row, a window for each of `steps`, after one window that is thrown away where it is short."""
    if chosen.needs_session and (bench.ray is None or not bench.ray.is_initialized()):
        open_session(bench)
    with contextlib.ExitStack() as bench.cleanup:
        window = chosen.set_up(bench)
        if chosen.needs_session and not chosen.is_time:
            window()
        for _ in steps:
            yield window()


def explain(error):
    """An error in one line; for a failed process, the last line it wrote."""
    if isinstance(error, subprocess.CalledProcessError):
        written = error.stderr if isinstance(error.stderr, str) else (error.stderr or b"").decode(errors="replace")
        return f"exit status {error.returncode}: {(written.strip().splitlines() or ['no message'])[-1]}"
    return f"{type(error).__name__}: {error}"


def emit(**fields):
    print("@row " + json.dumps(fields), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", required=True)
    parser.add_argument("--rows", default=",".join(ROWS), help="names, comma-separated")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=1.0)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--stepped", action="store_true")
    options = parser.parse_args()

    names = options.rows.split(",")
    # Rows without a session first: they start processes of their own on a machine that is otherwise idle.
    chosen_rows = sorted((ROWS[name] for name in names), key=lambda chosen: chosen.needs_session)
    bench = Bench(options.system, options.cpus, options.window_seconds)
    for chosen in chosen_rows:
        emit(begin=chosen.name)
        try:
            with time_limit(chosen.limit_s):
                if options.stepped:
                    # `iter(readline, "")`, since iterating over a file reads ahead.
                    for value in measure(bench, chosen, iter(sys.stdin.readline, "")):
                        emit(row=chosen.name, value=value)
                else:
                    emit(row=chosen.name, values=list(measure(bench, chosen, range(options.windows))))
        except Exception as error:  # noqa: BLE001 - a row that fails is a result of this row only
            emit(row=chosen.name, error=explain(error))
    if bench.ray is not None and bench.ray.is_initialized():
        bench.ray.shutdown()


if __name__ == "__main__":
    main()
