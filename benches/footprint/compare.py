"""Runs the footprint script on both systems and prints what they cost while they do nothing."""

import argparse
import os
import pathlib
import sys

import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "footprint_job.py"
SYSTEMS = ("aktis", "ray")
LIMIT_S = 600
MB = 1e6
#: Numbers of references: round ones, and those just before and just after the doublings of a table that is full at 7/8 of a
#: power of two.
REFS = "100000,113000,115000,228000,230000,500000,916000,919000,1000000"

#: (key, title, divisor, unit, most that Aktis may use or None)
LINES = (
    ("import_s", "import", 1e-3, "ms", 60),
    ("import_and_use_s", "import, and first use of init, remote and get", 1e-3, "ms", 60),
    ("processes", "processes of an idle session, with the driver", 1, "", None),
    ("worker_uss_bytes", "own memory of an idle worker (USS)", MB, "MB", 15),
    ("session_pss_bytes", "memory of an idle session in all (PSS)", MB, "MB", 100),
    ("session_shm_bytes", "  of that, shared memory", MB, "MB", None),
    ("bare_python_uss_bytes", "  for comparison: the driver before the import (USS)", MB, "MB", None),
    ("idle_cores", "CPU of an idle session, share of one core", 0.01, "%", 1),
    ("bytes_per_ref", "memory per reference in its owner, worst", 1, "B", 300),
    ("bytes_per_queued_task", "memory per queued task in its owner", 1, "B", None),
    ("bytes_left_by_tasks", "memory left behind by the tasks", MB, "MB", 10),
    ("bytes_left_by_tasks_again", "  and by as many again", MB, "MB", 10),
)


def rows_of(results):
    rows = []
    for key, title, divisor, unit, limit in LINES:
        values = [results[system].get(key) if system in results else None for system in SYSTEMS]
        shown = ["-" if value is None else f"{value / divisor:.4g} {unit}".strip() for value in values]
        mine = values[0]
        judged = "" if limit is None or mine is None else report.judge(mine / divisor <= limit)
        rows.append((title, *shown, f"<= {limit} {unit}" if limit else "", judged))
        if key == "bytes_per_ref":
            rows += rows_by_number(results)
    return rows


def rows_by_number(results):
    """The memory of a reference for each number of them."""
    found = [results.get(system, {}).get("bytes_per_ref_by_number", {}) for system in SYSTEMS]
    numbers = sorted({number for values in found for number in values}, key=int)

    def shown(values, number):
        return f"{values[number]:.4g} B" if number in values else "-"

    return [
        (f"  of {int(number):,}".replace(",", " "), *(shown(values, number) for values in found), "", "")
        for number in numbers
    ]


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py footprint", description="What a session costs while it does nothing.")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--idle-seconds", type=float, default=10)
    parser.add_argument("--refs", default=REFS, help="numbers of references, comma-separated")
    parser.add_argument("--ray-refs", default="100000", help="the same for Ray, which takes long")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks queued at once, for what they leave behind")
    parser.add_argument("--ray-tasks", type=int, default=20_000, help="the same for Ray, which takes long")
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(argv)
    if not os.path.exists("/proc/self/smaps_rollup"):
        print("this measurement reads /proc/<pid>/smaps_rollup, which only Linux has", file=sys.stderr)
        return 2
    machine, results, errors = report.machine(), {}, {}
    tasks = {"aktis": options.tasks, "ray": options.ray_tasks}
    refs = {"aktis": options.refs, "ray": options.ray_refs}
    for system in options.systems.split(","):
        command = [ray_env.python_of(system), JOB, "--system", system, "--idle-seconds", options.idle_seconds,
                   "--refs", refs[system], "--tasks", tasks[system], "--cpus", options.cpus]  # fmt: skip
        try:
            results[system], _ = jobs.run(command, LIMIT_S)
        except jobs.JobFailed as failure:
            errors[system] = str(failure)
            print(f"  {system}: {failure}", file=sys.stderr)
    rows = rows_of(results)
    print(report.table(("idle", "Aktis", "Ray", "target", ""), rows))
    outcome = {"machine": machine, "options": vars(options), "systems": results, "errors": errors}
    print(f"\nwritten to {os.path.relpath(report.write('footprint', outcome))}")
    return 1 if errors or any(row[-1] == "MISSED" for row in rows) else 0
