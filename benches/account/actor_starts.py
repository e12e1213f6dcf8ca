"""Twenty actors started and called, beside as many bare forks of a process like the zygote, in turns.

What the runtime adds to a fork is what the start of an actor can be accounted with: both need a process each, on the same CPUs,
with the same pages to copy when they are written to.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

import aktis
from aktis import _aktis as native

ACTORS = 20
GONE_DEADLINE_S = 30.0

#: Has imported what the zygote has. A byte asks for children; each writes one when it runs, and ends when the next byte comes.
BARE_ZYGOTE = """
import gc, os, sys
import aktis._process.zygote
gc.collect()
gc.freeze()
gc.disable()
count = int(sys.argv[1])
os.write(1, b"r")
while os.read(0, 1):
    stay, leave = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(leave)
            os.write(1, b"c")
            os.read(stay, 1)
            os._exit(0)
        children.append(child)
    os.read(0, 1)
    os.close(leave)
    os.close(stay)
    for child in children:
        os.waitpid(child, 0)
    os.write(1, b"e")
"""


@aktis.remote(num_cpus=0)
class Started:
    """Knows when it came where."""

    def __init__(self):
        self.constructed = time.monotonic_ns()

    def told(self):
        events = {name: at for name, _, at in native.take_stages()}
        return os.getpid(), events | {"constructed": self.constructed, "called": time.monotonic_ns()}


class BareZygote:
    """A process that forks on request."""

    def __enter__(self):
        command = [sys.executable, "-c", BARE_ZYGOTE, str(ACTORS)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._await(b"r", 1)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _await(self, byte, count):
        for _ in range(count):
            if self.process.stdout.read(1) != byte:
                raise RuntimeError("the bare zygote has ended")

    def forks_ms(self):
        """Milliseconds until each child runs."""
        start = time.perf_counter()
        self.process.stdin.write(b"f")
        self._await(b"c", ACTORS)
        took = time.perf_counter() - start
        self.process.stdin.write(b"e")
        self._await(b"e", 1)
        return took * 1e3


def measure(rounds):
    """Milliseconds after the first `remote()` at which the first, the middle and the last actor came where; and the floor.

    Needs a session. All are medians of the rounds; one more before them warms up.
    """
    floors, starts = [], []
    with BareZygote() as zygote:
        for _ in range(rounds + 1):
            floors.append(zygote.forks_ms())
            starts.append(_started_and_called())
    events = {
        event: [statistics.median(start[event][place] for start in starts[1:]) for place in range(3)]
        for event in starts[0]
    }
    return {"actors": ACTORS, "forks_ms": statistics.median(floors[1:]), "events": events}


def _started_and_called():
    begun = time.monotonic_ns()
    actors = [Started.remote() for _ in range(ACTORS)]
    refs = [actor.told.remote() for actor in actors]
    submitted = time.monotonic_ns()
    told = aktis.get(refs)
    answered = time.monotonic_ns()
    for actor in actors:
        aktis.kill(actor)
    _await_end([pid for pid, _ in told])
    found = {}
    for event in ("forked", "joined", "constructed", "called"):
        at = sorted((events[event] - begun) / 1e6 for _, events in told)
        found[event] = [at[0], statistics.median(at), at[-1]]
    for event, at in (("submitted", submitted), ("answered", answered)):
        found[event] = [(at - begun) / 1e6] * 3
    return found


def _await_end(pids):
    """The next round is not to share its CPUs with the end of this one."""
    give_up_at = time.monotonic() + GONE_DEADLINE_S
    while any(_exists(pid) for pid in pids):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"killed actors are still there after {GONE_DEADLINE_S:g} s")
        time.sleep(0.01)


def _exists(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
