"""Machines that share a temporary folder, and a daemon that is process 1 of its container."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

#: Another machine: a network, a name, file systems and a boot of its own. The machine boots under what its first argument says.
MACHINE = """
    ip link set lo up && echo "$0" > "$1" && mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"
"""
OWN_PIDS = ["--pid", "--fork", "--mount-proc", "--kill-child"]


def machine(folder, number, *namespaces):
    """The beginning of a command that runs on another machine, whose processes are its own if `namespaces` says so."""
    boot = f"{number:08d}-0000-4000-8000-000000000000"
    shell = ["sh", "-c", MACHINE.strip(), boot, str(folder / f"boot-{number}")]
    return ["unshare", "--net", "--uts", "--mount", *namespaces, *shell]


def can_make_machines(tmp_path_factory):
    if os.geteuid() != 0 or not all(map(shutil.which, ["unshare", "ip", "mount"])):
        return False
    folder = tmp_path_factory.mktemp("probe")
    return subprocess.run([*machine(folder, 1), "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(autouse=True)
def only_where_machines_can_be_made(tmp_path_factory):
    if not can_make_machines(tmp_path_factory):
        pytest.skip("only root can make other namespaces")


def spawn(prefix, script, environment):
    """Runs a script that takes orders and gives answers, a line each."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ask(process, order):
    process.stdin.write(order + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


#: A head, a driver and an actor of one machine.
LIFE = """
    import subprocess, sys

    def command(*arguments):
        done = subprocess.run([sys.executable, "-m", "aktis._cli", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command("start", "--head", "--port", PORT, "--num-cpus", "1")
    import aktis
    aktis.init(address="auto", log_to_driver=False)

    @aktis.remote(num_cpus=0)
    class Counter:
        count = 0
        def add(self):
            self.count += 1
            return self.count

    first = Counter.remote()
    for order in sys.stdin:
        if order == "work\\n":
            fresh = Counter.remote()  # a worker that is forked only now
            print(len(aktis.nodes()), *aktis.get([first.add.remote(), fresh.add.remote()], timeout=60), flush=True)
        else:
            aktis.shutdown()
            print(command("stop").strip().replace("\\n", " "), flush=True)
            break
"""


@pytest.mark.parametrize("namespaces", [OWN_PIDS, []], ids=["other processes", "the same numbers of processes"])
def test_clusters_of_two_machines_share_a_temporary_folder(cluster, namespaces):
    machines = [machine(cluster.folder, number, *namespaces) for number in (1, 2)]
    lives = []
    try:
        for life in machines:
            # Tables of heads are told from each other by their ports.
            script = LIFE.replace("PORT", repr(str(6391 + len(lives))))
            lives.append(spawn(life, script, cluster.environment))
            assert ask(lives[-1], "work") == "1 1 1"
        # And a third one, which has nothing.
        assert "No Aktis daemon" in cluster.run("stop")
        assert "Ended 1 Aktis daemon" in ask(lives[0], "stop")
        assert ask(lives[1], "work") == "1 2 1"
        assert "Ended 1 Aktis daemon" in ask(lives[1], "stop")
    finally:
        for life in lives:
            life.kill()
            life.communicate()


#: Process 1 of a container is a daemon. What its workers started outlives them: in other groups and sessions, and when the zygote
#: dies before them.
CONTAINER = """
    import os, pathlib, signal, subprocess, sys, time
    import aktis

    aktis.init(address="auto", log_to_driver=False)

    @aktis.remote(num_cpus=0)
    class Parent:
        def __init__(self):
            for is_daemon in (False, True):
                subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1000"], start_new_session=is_daemon)
        def pids(self):
            return os.getpid(), os.getppid()

    def others():
        states = {}
        for folder in pathlib.Path("/proc").iterdir():
            try:
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                states[int(folder.name)] = (name, rest.split()[0])
            except (OSError, ValueError):
                continue
        return states

    def sleepers():
        return [one for one in others().values() if one[0] in ("sh", "sleep") or one[1] == "Z"]

    for order in sys.stdin:
        parents = [Parent.remote() for _ in range(3)]
        pids = aktis.get([parent.pids.remote() for parent in parents], timeout=60)
        while len([one for one in sleepers() if one[1] != "Z"]) < 3 * 2 * 3:
            time.sleep(0.01)
        victims = {pid for pid, _ in pids} if order == "workers\\n" else {zygote for _, zygote in pids}
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 60
        while sleepers() and time.monotonic() < end:
            time.sleep(0.01)
        print(order.strip(), sleepers(), flush=True)
"""


def test_a_daemon_that_is_process_1_ends_and_reaps_what_its_workers_have_started(cluster):
    port = "6392"
    daemon = [sys.executable, "-m", "aktis._cli", "start", "--head", "--port", port, "--num-cpus", "1", "--block"]
    container = machine(cluster.folder, 1, *OWN_PIDS)
    head = subprocess.Popen([*container, *daemon], stdout=subprocess.PIPE, text=True, env=cluster.environment)
    try:
        for line in head.stdout:
            if "is up at" in line:
                break
        children = f"/proc/{head.pid}/task/{head.pid}/children"
        with open(children) as listed:
            (inside,) = listed.read().split()
        driver = spawn(["nsenter", "--target", inside, "--all"], CONTAINER, cluster.environment)
        try:
            for order in ("workers", "zygote", "workers"):
                assert ask(driver, order) == f"{order} []"
        finally:
            driver.kill()
            driver.communicate()
        assert head.poll() is None
    finally:
        head.kill()
        head.communicate()
