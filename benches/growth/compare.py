"""Measures how the cost of one thing grows with how many there are, judges it and draws it."""

import argparse
import math
import os
import pathlib
import shutil
import subprocess
import sys

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "growth"
LIMIT_S = 1800

#: What each series shows, for plots and table.
TITLES = {
    "tasks": {"title": "Tasks queued at once", "n": "tasks queued", "item": "µs per task"},
    "actors": {"title": "Calls spread over actors of one node", "n": "actors", "item": "µs per call"},
    "references": {"title": "References with a small value", "n": "references", "item": "µs per reference"},
    "contained": {"title": "References inside one value", "n": "references in the value", "item": "µs per reference"},
}
#: Below so many items fixed costs dominate: the growth is judged from there on.
JUDGED_FROM = {"tasks": 1000, "actors": 1, "references": 1000, "contained": 1000}
#: The cost of all items grows with this power of their number at most; 1 is linear. Or the cost of one stays below so many
#: times its floor.
MOST_EXPONENT = 1.1
MOST_OF_FLOOR = 1.5


def exponent(ns, per_item, first):
    """The power of n with which the cost of n items grows: least squares over logarithms."""
    points = [(math.log(n), math.log(n * cost)) for n, cost in zip(ns, per_item, strict=True) if n >= first]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def render(series):
    rows = []
    for name, table in series.items():
        floors = table.get("floors", {})
        for part, costs in table["parts"].items():
            power = exponent(table["n"], costs, JUDGED_FROM[name])
            of_floor = costs[-1] / table["parts"][floors[part]][-1] if part in floors else None
            is_met = power <= MOST_EXPONENT or (of_floor is not None and of_floor <= MOST_OF_FLOOR)
            rows.append((
                f"{TITLES[name]['title']}: {part}",
                f"{table['n'][0]}: {1e6 * costs[0]:.3g}",
                f"{table['n'][-1]}: {1e6 * costs[-1]:.3g}",
                f"{1e6 * max(costs):.3g}",
                f"{power:.2f}",
                "" if of_floor is None else f"{of_floor:.2f}",
                "" if part in table.get("comparison", ()) else report.judge(is_met),
            ))  # fmt: skip
    header = ("µs per item", "at least n", "at most n", "worst", "power of n", "of the floor", "")
    return report.table(header, rows)


def draw(result_path, folder):
    requirements = (HERE / "requirements.txt").read_text().split()
    python = ray_env.venv_python("plot-venv", requirements)
    subprocess.run([python, HERE / "plot.py", result_path, folder], check=True)


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py growth", description="How costs grow with the number of things.")
    parser.add_argument("--series", default=",".join(TITLES))
    parser.add_argument("--most", type=int, default=1_000_000, help="largest number of tasks and references")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--docs", action="store_true", help="put result and plots into docs/growth")
    options = parser.parse_args(argv)
    machine, series, errors = report.machine(), {}, {}
    for name in options.series.split(","):
        command = [sys.executable, HERE / "growth_job.py", "--series", name, "--most", options.most,
                   "--windows", options.windows, "--cpus", options.cpus]  # fmt: skip
        print(f"  {name}", file=sys.stderr, flush=True)
        try:
            series[name], _ = jobs.run(command, LIMIT_S)
        except jobs.JobFailed as failure:
            errors[name] = str(failure)
            print(f"  {name}: {failure}", file=sys.stderr)
    print(render(series))
    result = {"machine": machine, "options": vars(options), "titles": TITLES, "series": series, "errors": errors}
    path = report.write("growth", result)
    draw(path, path.with_suffix(""))
    print(f"\nwritten to {os.path.relpath(path)}; plots in {os.path.relpath(path.with_suffix(''))}")
    if options.docs:
        DOCS.mkdir(exist_ok=True)
        for plot in path.with_suffix("").glob("*.svg"):
            shutil.copy(plot, DOCS)
        shutil.copy(path, DOCS / "growth.json")
    return 1 if errors else 0
