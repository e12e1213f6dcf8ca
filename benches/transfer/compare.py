"""Copies an object between two nodes and between two bare programs, in turns, and prints the ratio."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python" / "cluster"))
#: Names of the namespaces and ends of the link between them.
NEAR, FAR = "aktis-near", "aktis-far"
NEAR_LINK, FAR_LINK = "ak-near", "ak-far"
NEAR_IP, FAR_IP = "10.213.7.1", "10.213.7.2"
BARE_PORT = 7501
HEAD_PORT = 7502
LIMIT_S = 300
GOAL = 0.8


def quiet(*command):
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def two_namespaces():
    """Two network namespaces with one link; gives the commands that run something in each."""
    remove()
    for name in (NEAR, FAR):
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    try:
        ip("link", "add", NEAR_LINK, "netns", NEAR, "type", "veth", "peer", "name", FAR_LINK, "netns", FAR)
        for name, device, address in ((NEAR, NEAR_LINK, NEAR_IP), (FAR, FAR_LINK, FAR_IP)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        yield [["ip", "netns", "exec", name] for name in (NEAR, FAR)]
    finally:
        remove()


def remove():
    for name in (NEAR, FAR):
        quiet("ip", "netns", "del", name)


class Bare:
    """The bare sender; every copy has a receiver of its own."""

    def __init__(self, program, inside, address, megabytes, streams, tls):
        self.arguments = [address, str(megabytes), str(streams), *tls]
        self.program, self.receiver_inside = program, inside[0]
        command = [*inside[1], program, "send", *self.arguments]
        self.sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.sender.stdout.readline() == "ready\n", "the bare sender does not start"

    def copy(self):
        self.sender.stdin.write("\n")
        self.sender.stdin.flush()
        command = [*self.receiver_inside, self.program, "receive", *self.arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
        return float(done.stdout)

    def close(self):
        self.sender.stdin.close()
        self.sender.wait(LIMIT_S)


class Nodes:
    """A head and a node; the object is made on the node and fetched by a program beside the head."""

    def __init__(self, folder, inside, ips, tls, store_bytes):
        self.inside = inside
        self.address = f"{ips[0]}:{HEAD_PORT}"
        self.environments = []
        for name in ("head", "node"):
            (folder / name).mkdir()
            settings = {"AKTIS_TEMP_DIR": str(folder / name), "AKTIS_TOKEN": "bench"}
            if tls:
                settings |= dict(zip(("AKTIS_TLS_CERT", "AKTIS_TLS_KEY", "AKTIS_TLS_CA"), tls, strict=True))
            settings["AKTIS_OBJECT_STORE_BYTES"] = str(store_bytes)
            self.environments.append({**os.environ, **settings})
        head = ["--head", "--port", str(HEAD_PORT), "--node-ip-address", ips[0], "--num-cpus", "1"]
        self.command(0, "start", *head)
        node = ["--address", self.address, "--node-ip-address", ips[1], "--num-cpus", "1"]
        self.command(1, "start", *node, "--resources", '{"far": 1}')

    def command(self, index, *arguments, check=True):
        command = [*self.inside[index], sys.executable, "-m", "aktis._cli", *arguments]
        environment = self.environments[index]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if check and done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def copies(self, megabytes, times):
        job = [*self.inside[0], sys.executable, str(HERE / "transfer_job.py"), self.address, str(megabytes), str(times)]
        done = subprocess.run(
            job, env=self.environments[0], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"the copy failed: {done.stdout}{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def close(self):
        for index in (1, 0):
            self.command(index, "stop", check=False)


def bare_program():
    """Built with the profile that Aktis has."""
    given = os.environ.get("AKTIS_BARE_TRANSFER")
    if given:
        return given
    build = ["cargo", "build", "--release", "-p", "aktis-benches", "--bin", "bare_transfer"]
    subprocess.run(build, check=True, cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "bare_transfer")


def certificates(folder):
    from certificates import Authority

    authority = Authority(folder / "authority")
    return [str(path) for path in (*authority.sign("aktis"), authority.path)]


def measure(title, inside, ips, tls, options, program):
    """Rounds of one copy by each bare program and one by Aktis."""
    seconds = {"aktis": []}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="akx", dir="/tmp"))
    bares = {}
    try:
        for number, streams in enumerate(options.streams):
            address = f"{ips[1]}:{BARE_PORT + 10 * (number + 1)}"
            bares[f"bare, {streams} streams"] = Bare(program, inside, address, options.megabytes, streams, tls)
        nodes = Nodes(folder, inside, ips, tls, options.megabytes * 2_500_000)
        try:
            for _ in range(options.rounds):
                for name, bare in bares.items():
                    seconds.setdefault(name, []).append(bare.copy())
                seconds["aktis"] += nodes.copies(options.megabytes, 1)
        finally:
            nodes.close()
    finally:
        for bare in bares.values():
            bare.close()
        shutil.rmtree(folder, ignore_errors=True)
    speeds = {name: [options.megabytes / value for value in values] for name, values in seconds.items()}
    floor = max(report.median(values) for name, values in speeds.items() if name != "aktis")
    rows = []
    for name, values in sorted(speeds.items()):
        middle = report.median(values)
        shown = f"{middle / floor:.2f}"
        judged = report.judge(middle >= GOAL * floor) if name == "aktis" else ""
        rows.append((name, f"{middle:.0f} MB/s", f"{min(values):.0f}-{max(values):.0f}", shown, judged))
    print(f"\n{title}, {options.megabytes} MB, median of {options.rounds}")
    print(report.table(("who", "speed", "range", "of the faster floor", f"goal {GOAL}"), rows))
    return {"speeds": speeds, "reached": report.median(speeds["aktis"]) >= GOAL * floor}


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py transfer", description="A copy between nodes, against bare sockets.")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4])
    parser.add_argument("--of", default="tls,plain", help="tls: between two namespaces; plain: on loopback")
    options = parser.parse_args(argv)
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("two network namespaces need root and the ip command (iproute2)", file=sys.stderr)
        return 2
    program, results = bare_program(), {}
    if "tls" in options.of:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="akt", dir="/tmp"))
        with two_namespaces() as inside:
            tls = certificates(folder)
            results["tls"] = measure("Over TLS", inside, (NEAR_IP, FAR_IP), tls, options, program)
        shutil.rmtree(folder, ignore_errors=True)
    if "plain" in options.of:
        # Without TLS nothing is said beyond loopback (NET-1).
        ips = ("127.0.0.1", "127.0.0.1")
        results["plain"] = measure("Without TLS", ([], []), ips, [], options, program)
    report.write("transfer", {"machine": report.machine(), "results": results})
    return 0 if all(result["reached"] for result in results.values()) else 1
