"""Starts twenty actors in both systems on a machine that is busy, beside as many bare forks, and prints the ratios."""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys

import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "busy_job.py"
LIMIT_S = 900
#: Least ratio to Ray.
TARGET = 40

SPIN = "while True: pass"


@contextlib.contextmanager
def load(processes):
    """So many processes that compute all the while."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def measure(options):
    """The systems take turns, each in a process of its own."""
    found = {"starts_s": {"aktis": [], "ray": []}, "forks_s": []}
    with load(options.load):
        for number in range(options.turns):
            for system in ("aktis", "ray"):
                print(f"  turn {number + 1} of {options.turns}, {system}", file=sys.stderr, flush=True)
                command = [
                    ray_env.python_of(system), JOB, "--system", system, "--cpus", options.cpus,
                    "--rounds", options.rounds if system == "aktis" else max(2, options.rounds // 5),
                ]  # fmt: skip
                result, _ = jobs.run(command, LIMIT_S)
                found["starts_s"][system] += result["starts_s"]
                found["forks_s"] += result["forks_s"]
    return found


def rows_of(found):
    aktis, ray, forks = (
        report.median(values) for values in (found["starts_s"]["aktis"], found["starts_s"]["ray"], found["forks_s"])
    )
    return [
        ("20 actors started and called, Aktis", report.number(aktis, "s"), ""),
        ("  the same, Ray", report.number(ray, "s"), ""),
        ("  ratio to Ray", f"{ray / aktis:.1f}x", report.judge(ray / aktis >= TARGET)),
        ("20 bare forks of a process like the zygote", report.number(forks, "s"), ""),
        ("  actors, as a multiple of the forks", f"{aktis / forks:.2f}x", ""),
        ("  ratio to Ray if actors cost no more than the forks", f"{ray / forks:.1f}x", ""),
    ]


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py busy_starts", description="Starts of actors on a busy machine.")
    parser.add_argument("--load", type=int, default=os.cpu_count(), help="processes that compute meanwhile")
    parser.add_argument("--turns", type=int, default=3, help="how often the systems take turns")
    parser.add_argument("--rounds", type=int, default=15, help="of Aktis in each turn; Ray has a fifth of them")
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(argv)
    machine, found = report.machine(), measure(options)
    print(report.table((f"medians, {options.load} processes compute meanwhile", "", ""), rows_of(found)))
    path = report.write("busy_starts", {"machine": machine, "options": vars(options), **found})
    print(f"\nwritten to {os.path.relpath(path)}")
    return 0
