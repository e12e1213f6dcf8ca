"""Runs the jobs that are asked for, all systems alternating, and prints times, memory and ratios."""

import argparse
import os

import report
import run

#: Jobs and the part of this folder that has them.
PARTS = {
    "tpch": "tpch",
    "sort": "shapes",
    "join": "shapes",
    "groupby": "shapes",
    "shuffle": "shapes",
    "nodes": "nodes",
}


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py relational", description="Queries, and shapes of relational work.")
    parser.add_argument("--jobs", default="tpch", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--systems", default="", help="all that can do the job if empty")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--memory", type=int, default=0, help="bytes that each may use; 0: its default, or 1 GiB for shapes"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of tpch: 1 is about 1 GB of rows")
    parser.add_argument("--questions", default="", help="of tpch: such as q01,q06; all if empty")
    parser.add_argument("--gb", type=float, default=10, help="of shapes and nodes: the rows in memory")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="of shapes: that each may use")
    parser.add_argument("--limit-s", type=int, default=3600, help="of shapes and nodes: what takes longer is not done")
    options = parser.parse_args(argv)
    asked = options.jobs.split(",")
    unknown = [job for job in asked if job not in PARTS]
    if unknown:
        parser.error(f"no job is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return asked, options


def main(argv):
    asked, options = parse(argv)
    machine, results, are_reached = report.machine(), {}, []
    for part in dict.fromkeys(PARTS[job] for job in asked):
        module = run.load("relational", part)
        if part == "shapes":
            options.memory = options.memory or 1 << 30
            measured = module.measure([job for job in asked if PARTS[job] == part], options)
        else:
            measured = module.measure(options)
        text, is_reached = module.render(measured, options)
        print(text)
        results[part] = measured
        are_reached.append(is_reached)
    result = {"machine": machine, "options": vars(options), "results": results}
    print(f"\nwritten to {os.path.relpath(report.write('relational', result))}")
    return 0 if all(are_reached) else 1
