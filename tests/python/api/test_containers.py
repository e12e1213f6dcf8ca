"""Two containers on one machine that share a temporary folder: neither takes the other's session for one that has ended."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap

import pytest
from waiting import DEADLINE_S

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_make_containers():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_make_containers(), reason="only root can make another namespace of processes")


@pytest.fixture
def shared_folder():
    """Of a short name: paths of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="ak", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


#: Holds more than its store has room for, so that its folder has files of objects; goes on when it is told to.
FIRST = """
    import aktis, numpy, os, sys
    aktis.init(num_cpus=1, object_store_memory=64 << 20, log_to_driver=False)

    @aktis.remote(num_cpus=0)
    class Actor:
        def pid(self): return os.getpid()

    actor = Actor.remote()
    before = aktis.get(actor.pid.remote(), timeout=60)
    kept = [aktis.put(numpy.full(8 << 20, number, dtype=numpy.uint8)) for number in range(12)]
    print("ready", flush=True)
    sys.stdin.readline()
    assert [int(aktis.get(one)[0]) for one in kept] == list(range(12))
    assert aktis.get(actor.pid.remote(), timeout=60) == before
    aktis.get(Actor.remote().pid.remote(), timeout=60)  # a worker that is forked only now
    print("as before", flush=True)
"""
SECOND = "import aktis; aktis.init(num_cpus=1); print(aktis.get(aktis.remote(len).remote('abc'), timeout=60))"


@pytest.mark.parametrize("is_first_inside", [True, False], ids=["first inside", "first outside"])
def test_a_session_outlives_the_beginning_of_one_in_another_container(shared_folder, is_first_inside):
    environment = {**os.environ, "AKTIS_TEMP_DIR": shared_folder}
    first, second = (CONTAINER, []) if is_first_inside else ([], CONTAINER)
    command = [sys.executable, "-W", "ignore", "-c"]
    process = subprocess.Popen(
        [*first, *command, textwrap.dedent(FIRST)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        for script in (SECOND, "import aktis._cli, sys; sys.argv = ['aktis', 'stop']; aktis._cli.main()"):
            subprocess.run([*second, *command, script], env=environment, timeout=DEADLINE_S, check=True)
        output, _ = process.communicate("go on\n", timeout=DEADLINE_S)
        assert output == "as before\n"
    finally:
        process.kill()
        process.communicate()
