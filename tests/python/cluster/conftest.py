"""Clusters of real daemons on this machine, each test module in a folder of its own."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest
from waiting import DEADLINE_S, until


def is_daemon(pid):
    """Whether the process runs a daemon; it may have ended meanwhile."""
    try:
        return b"\0daemon\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def parent(pid):
    """The id of its parent; ``None``: it has ended."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def processes_with(text):
    """Ids of the processes whose command line or environment mentions ``text``, this one excepted."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            about = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if state != "Z" and text.encode() in about:
            found.append(int(folder.name))
    return found


def free_port():
    """A port that the system gives to nobody who does not ask for it by its number: a head that is started again needs the same one."""
    while not is_free(port := random.randrange(10_000, 30_000)):
        pass
    return port


def is_free(port):
    """Whether nobody listens there."""
    with socket.socket() as probe:
        # As a head does: connections that were there before do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Cluster:
    """Daemons that share a temporary folder."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "AKTIS_TEMP_DIR": str(folder), "AKTIS_NODE_TIMEOUT": "4s"}
        self.address = None

    @contextlib.contextmanager
    def elsewhere(self, **environment):
        """What is started in the block is started with these variables besides."""
        before, self.environment = self.environment, self.environment | environment
        yield
        self.environment = before

    def run(self, *arguments):
        """Runs the aktis command and returns what it printed."""
        command = [sys.executable, "-m", "aktis._cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_head(self, *arguments):
        """Starts gcs and first node on a free port."""
        port = free_port()
        self.run("start", "--head", "--port", str(port), *arguments)
        self.address = f"127.0.0.1:{port}"

    def start_head_again(self, *arguments):
        """Starts a head in the place of one that has ended, which lets go of its port after it is gone from among the daemons."""
        port = self.address.rpartition(":")[2]
        until(lambda: is_free(int(port)), "the port of the head that has ended is free")
        self.run("start", "--head", "--port", port, *arguments)

    def start_node(self, *arguments):
        """Adds a node and returns the process id of its daemon."""
        before = set(self.daemons())
        self.run("start", "--address", self.address, *arguments)
        (pid,) = set(self.daemons()) - before
        return pid

    def daemons(self):
        """Process ids of the daemons. A process that one is just about to start looks like it, and is its child."""
        found = [pid for pid in processes_with(f"AKTIS_TEMP_DIR={self.folder}") if is_daemon(pid)]
        return [pid for pid in found if parent(pid) not in found]

    def nodes(self):
        """The nodes as `aktis status --json` tells them."""
        return json.loads(self.run("status", "--json"))["nodes"]


@pytest.fixture
def cluster():
    """A cluster folder; every process started in it is ended afterwards."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ak", dir="/tmp"))
    cluster = Cluster(folder)
    yield cluster
    subprocess.run(
        [sys.executable, "-m", "aktis._cli", "stop"],
        env=cluster.environment,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    until(lambda: not processes_with(str(folder)), "all processes of the cluster are gone")
    shutil.rmtree(folder, ignore_errors=True)
