"""A shuffle over two nodes, beside a bare program that moves the same bytes with the same TLS and checksum."""

import concurrent.futures
import os
import pathlib
import shutil
import sys
import tempfile
import time

import jobs
import report
import run

JOB = pathlib.Path(__file__).resolve().parent / "nodes_job.py"
GOAL = 0.7
STREAMS = 4


class BareExchange:
    """Two bare programs, each of which sends as many bytes as it gets."""

    def __init__(self, transfer, program, inside, megabytes, tls):
        ends = ((inside, transfer.FAR_IP, 1), (inside[::-1], transfer.NEAR_IP, 2))
        self._ways = []
        for ends_inside, address, number in ends:
            there = f"{address}:{transfer.BARE_PORT + 10 * number}"
            self._ways.append(transfer.Bare(program, ends_inside, there, megabytes, STREAMS, tls))

    def exchange(self):
        """Seconds of the longer way; both go at once."""
        with concurrent.futures.ThreadPoolExecutor(len(self._ways)) as pool:
            return max(pool.map(lambda way: way.copy(), self._ways))

    def close(self):
        for way in self._ways:
            way.close()


def measure(options):
    """Rounds of one shuffle and one bare exchange of as many bytes as cross between the nodes: a fourth of the rows each way."""
    transfer = run.load("transfer")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise SystemExit("two network namespaces need root and the ip command (iproute2)")
    program = transfer.bare_program()
    megabytes = round(options.gb * 1000 / 4)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="akr", dir="/tmp"))
    seconds, shuffles = {"bare": [], "aktis": []}, []
    try:
        with transfer.two_namespaces() as inside:
            tls = transfer.certificates(folder)
            bare = BareExchange(transfer, program, inside, megabytes, tls)
            ips = (transfer.NEAR_IP, transfer.FAR_IP)
            nodes = transfer.Nodes(folder, inside, ips, tls, int(options.gb * 3e9))
            try:
                for _ in range(options.rounds):
                    seconds["bare"].append(bare.exchange())
                    shuffles.append(shuffle(nodes, transfer, options))
                    seconds["aktis"].append(shuffles[-1]["job_s"])
                    line = ", ".join(f"{name} {report.number(all_of[-1], 's')}" for name, all_of in seconds.items())
                    crossed = f"{shuffles[-1]['crossed_mb']:.0f} MB crossed"
                    print(f"  nodes    {line}, {crossed}", file=sys.stderr, flush=True)
            finally:
                nodes.close()
                bare.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"seconds": seconds, "megabytes_each_way": megabytes, "shuffles": shuffles}


def shuffle(nodes, transfer, options):
    """What one shuffle took, rows in the stores of both nodes before and after."""
    command = [*nodes.inside[0], sys.executable, JOB, nodes.address, f"{options.gb:g}", transfer.NEAR_LINK]
    before = dict(os.environ)
    os.environ.update(nodes.environments[0])
    try:
        result, _ = jobs.run(command, options.limit_s)
    finally:
        os.environ.clear()
        os.environ.update(before)
    # The stores take their time to give the room back.
    time.sleep(1)
    return result


def render(measured, options):
    middle = {name: report.median(values) for name, values in measured["seconds"].items()}
    share = middle["bare"] / middle["aktis"]
    rows = [(name, report.number(value, "s"), f"{middle['bare'] / value:.2f}") for name, value in middle.items()]
    each = measured["megabytes_each_way"]
    crossed = report.median([shuffled["crossed_mb"] for shuffled in measured["shuffles"]])
    title = f"\n{options.gb:g} GB shuffled over two nodes, {crossed:.0f} MB crossed; bare: {each} MB each way at once"
    table = report.table(("who", "seconds", f"share of the bare rate (goal {GOAL})"), rows)
    return f"{title}\n{table}\n{report.judge(share >= GOAL)}", share >= GOAL
