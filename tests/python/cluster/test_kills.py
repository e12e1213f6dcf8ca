"""Real processes, killed at random while they work: all results are right, and nothing is left of anything.

``make soak`` kills a thousand (``AKTIS_TEST_KILLS``).
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import pytest
from waiting import DEADLINE_S, is_running, until

from .conftest import is_daemon, parent, processes_with

PROGRAM = pathlib.Path(__file__).with_name("kills_program.py")
KILLS = int(os.environ.get("AKTIS_TEST_KILLS", "20"))
#: So long a round may take after a kill: a node counts as dead after four seconds, and its work is done again.
PATIENCE_S = 120
#: Seconds for one kill and what follows it, at the very worst.
KILL_DEADLINE_S = 10


@pytest.fixture
def deadline():
    """In place of the one for all tests: a thousand kills take longer."""

    def interrupt(_signal, _frame):
        raise TimeoutError("the kills and their work take too long")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(PATIENCE_S + KILL_DEADLINE_S * KILLS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


class Program:
    """The program, and how far it is."""

    def __init__(self, cluster, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=cluster.environment,
        )
        self.pid = self._process.pid
        self.rounds = 0
        self._ended = None
        self._errors = ""
        self._readers = [threading.Thread(target=read) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self):
        for line in self._process.stdout:
            if line == "round\n":
                self.rounds += 1
            else:
                self._ended = json.loads(line)

    def _read_errors(self):
        self._errors = self._process.stderr.read()

    def next_rounds(self, count=2):
        """Waits until so many rounds more were right: the last of them began after this call."""
        enough = self.rounds + count
        is_over = lambda: self.rounds >= enough or self._process.poll() is not None
        until(is_over, f"{count} rounds more", PATIENCE_S)
        if self.rounds < enough:
            self._wait()
            pytest.fail(f"the program ended with {self._process.returncode}: {self._ended}\n{self._errors}")

    def _wait(self):
        self._process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)

    def stop(self):
        """Ends it in good order; all its rounds were right."""
        self._process.stdin.close()
        self._wait()
        assert self._ended is not None, self._errors
        assert (self._process.returncode, self._ended["failures"]) == (0, []), self._errors

    def kill(self):
        self._process.kill()
        self._wait()


def victims(cluster, program):
    """Processes of the cluster, by kind."""
    found = {pid: parent(pid) for pid in processes_with(f"AKTIS_TEMP_DIR={cluster.folder}")}
    daemons = [pid for pid in found if is_daemon(pid)]
    hosts = {*daemons, program.pid}
    zygotes = [pid for pid, above in found.items() if above in hosts and pid not in hosts]
    workers = [pid for pid, above in found.items() if above in zygotes]
    return {"daemon": daemons, "zygote": zygotes, "worker": workers}


def kill_one(pids, chance):
    """Kills one of them, which may have ended by itself. Returns whether there was one."""
    if not pids:
        return False
    try:
        os.kill(chance.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def new_chance():
    """Printed, so that a run can be looked at again; what it meets is the machine's own chance."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_results_are_right_while_workers_and_zygotes_are_killed(cluster):
    chance, killed, program = new_chance(), 0, Program(cluster)
    try:
        program.next_rounds(1)
        while killed < KILLS * 4 // 5:
            kind = "zygote" if chance.random() < 0.05 else "worker"
            for _ in range(chance.randint(1, 4)):
                killed += kill_one(victims(cluster, program)[kind], chance)
            program.next_rounds()
        program.stop()
    finally:
        program.kill()
    until(lambda: not processes_with(str(cluster.folder)), "all processes of the session are gone")
    assert list(cluster.folder.glob("aktis-*/*")) == []


def is_idle(cluster):
    """Whether the cluster holds nothing for anybody."""
    status = json.loads(cluster.run("status", "--json"))
    has_jobs = any(job["is_running"] for job in status["jobs"])
    has_actors = any(actor["state"] != "DEAD" for actor in status["actors"])
    stored_bytes = sum(node["store_used_bytes"] for node in status["nodes"] if node["is_alive"])
    return not has_jobs and not has_actors and stored_bytes == 0 and status["available"] == status["total"]


class Killings:
    """A head and two nodes, a program at work, and what kills them."""

    def __init__(self, cluster, chance):
        self.cluster, self.chance, self.killed = cluster, chance, 0
        cluster.start_head("--num-cpus", "2")
        (self.head,) = cluster.daemons()
        self.nodes = [self._start_node() for _ in range(2)]
        self.program = self._start_program()

    def _start_node(self):
        return self.cluster.start_node("--num-cpus", "2")

    def _start_program(self):
        program = Program(self.cluster, self.cluster.address)
        program.next_rounds(1)
        return program

    def end_process(self):
        """Of whichever node."""
        kind = "zygote" if self.chance.random() < 0.1 else "worker"
        self.killed += kill_one(victims(self.cluster, self.program)[kind], self.chance)

    def end_node(self):
        """A new one takes its place."""
        place = self.chance.randrange(len(self.nodes))
        os.kill(self.nodes[place], signal.SIGKILL)
        self.killed += 1
        until(lambda: not is_running(self.nodes[place]), "the node is gone")
        self.nodes[place] = self._start_node()

    def end_driver(self):
        self.program.kill()
        self.killed += 1
        self.program = self._start_program()

    def end_head(self):
        """Its node was the program's, whose session ends with it. The next head takes up the tables."""
        os.kill(self.head, signal.SIGKILL)
        self.killed += 1
        until(lambda: not is_running(self.head), "the head is gone")
        self.program.kill()
        self.cluster.start_head_again("--num-cpus", "2")
        (self.head,) = set(self.cluster.daemons()) - set(self.nodes)
        self.program = self._start_program()


def test_results_are_right_while_nodes_drivers_and_heads_are_killed(cluster):
    killings = Killings(cluster, new_chance())
    ways = [killings.end_process] * 6 + [killings.end_node] * 2 + [killings.end_driver, killings.end_head]
    try:
        while killings.killed < KILLS // 5:
            killings.chance.choice(ways)()
            killings.program.next_rounds()
        killings.program.stop()
    finally:
        killings.program.kill()
    until(lambda: is_idle(cluster), "no job runs, no actor lives, the stores are empty and everything is free")
