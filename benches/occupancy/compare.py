"""Runs the jobs on both systems alternately, and prints how many times the bound each took."""

import argparse
import os
import pathlib
import sys

import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "occupancy_job.py"
NAMES = {"aktis": "Aktis", "ray": "Ray Data"}
#: Times the bound that are the goal.
GOALS = {"two_stages": 1.10, "three_pools": 1 / 0.95, "after_cpu": 1.04, "straggler": 1.30, "engine": 1 / 0.97}


def measure(names, systems, options):
    """`{(job, system): {"times": [...], "errors": [...]}}`: times the bound, of rounds that alternate."""
    cells = {(name, system): {"times": [], "errors": []} for name in names for system in systems}
    for round_index in range(options.rounds):
        for name in names:
            for system in systems if round_index % 2 == 0 else reversed(systems):
                command = [ray_env.python_of(system), JOB, name, "--system", system]
                cell = cells[name, system]
                try:
                    result, _ = jobs.run(command, options.limit_s)
                except jobs.JobFailed as failure:
                    cell["errors"].append(str(failure))
                    print(f"  {system:8} {name:12} {failure}", file=sys.stderr, flush=True)
                    continue
                cell["times"].append(result["job_s"] / result["bound_s"])
                said = f"{result['job_s']:.2f} s, bound {result['bound_s']:.2f} s"
                print(f"  {system:8} {name:12} {said}", file=sys.stderr, flush=True)
    return cells


def render(names, systems, cells):
    rows = []
    for name in names:
        medians = [report.median(cells[name, system]["times"]) for system in systems]
        own = report.median(cells[name, "aktis"]["times"]) if "aktis" in systems else None
        shown = [f"{value:.2f}x" if value else "not done" for value in medians]
        rows.append([name, f"{GOALS[name]:.2f}x", *shown, report.judge(own is not None and own <= GOALS[name])])
    return report.table(("of the bound", "goal", *(NAMES[system] for system in systems), ""), rows)


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py occupancy", description=__doc__)
    parser.add_argument("--jobs", default=",".join(GOALS))
    parser.add_argument("--systems", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit-s", type=int, default=300, help="of one process; what takes longer is not done")
    options = parser.parse_args(argv)
    names, systems = options.jobs.split(","), tuple(options.systems.split(","))
    machine = report.machine()
    cells = measure(names, systems, options)
    print(render(names, systems, cells))
    named = {f"{name} {system}": cell for (name, system), cell in cells.items()}
    path = report.write("occupancy", {"machine": machine, "options": vars(options), "jobs": named})
    print(f"\nwritten to {os.path.relpath(path)}")
    return int(any(cells[name, system]["errors"] for name, system in cells if system == "aktis"))
