"""Measures how the cost of one thing grows with how many there are, judges it and draws it."""

import argparse
import dataclasses
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "growth"
PAGE = DOCS.with_suffix(".md")
LIMIT_S = 1800

#: What each series shows, for plots and table.
TITLES = {
    "tasks": {"title": "Tasks queued at once", "n": "tasks queued", "item": "µs per task"},
    "actors": {"title": "Calls spread over actors of one node", "n": "actors", "item": "µs per call"},
    "references": {"title": "References with a small value", "n": "references", "item": "µs per reference"},
    "pending": {"title": "References that are not ready", "n": "references", "item": "µs per reference"},
    "contained": {"title": "References inside one value", "n": "references in the value", "item": "µs per reference"},
}
#: The growth is judged over these n: (what is in this range, from, to). Below a thousand items fixed costs dominate. A value
#: of up to some 10 000 references stays with its owner, a larger one goes to the store: two ways, of which each is to be flat.
RANGES = {
    "actors": (("", 1, math.inf),),
    "contained": (("inline", 1000, 10_000), ("stored", 30_000, math.inf)),
}
USUAL_RANGES = (("", 1000, math.inf),)
#: The cost of all items grows with this power of their number at most; 1 is linear.
MOST_EXPONENT = 1.1
#: A part that grows faster is explained by its floor, if that grows as fast, or if the part is no more than so many times the
#: floor where there are most.
MOST_OF_FLOOR = 1.5


@dataclasses.dataclass(frozen=True)
class Growth:
    """How one part of a series grows over one range. Costs are seconds per item."""

    title: str
    smallest: tuple[int, float]
    largest: tuple[int, float]
    worst: float
    power: float
    is_comparison: bool
    floor: str | None = None
    of_floor: float | None = None
    power_of_floor: float | None = None

    @property
    def verdict(self):
        if self.is_comparison:
            return ""
        if self.power <= MOST_EXPONENT:
            return "ok"
        if self.floor and (self.power_of_floor >= self.power or self.of_floor <= MOST_OF_FLOOR):
            return "ok, as its floor"
        return "MISSED"


def exponent(points):
    """The power of n with which the cost of n items grows: least squares over logarithms."""
    points = [(math.log(n), math.log(n * cost)) for n, cost in points]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def growths(series):
    """All parts of all series, in all ranges of which there are two points at least."""
    found = []
    for name, table in series.items():
        for what, first, last in RANGES.get(name, USUAL_RANGES):
            for part in table["parts"]:
                growth = _growth(name, table, part, (what, first, last))
                found += [growth] if growth else []
    return found


def _growth(name, table, part, within):
    what, first, last = within

    def points_of(part):
        both = zip(table["n"], table["parts"][part], strict=True)
        return [(n, cost) for n, cost in both if first <= n <= last]

    points, floor = points_of(part), table.get("floors", {}).get(part)
    if len(points) < 2:
        return None
    beside = {}
    if floor:
        floor_points = points_of(floor)
        beside = {
            "floor": floor,
            "of_floor": points[-1][1] / floor_points[-1][1],
            "power_of_floor": exponent(floor_points),
        }
    title = f"{TITLES[name]['title']}{f' ({what})' if what else ''}: {part}"
    return Growth(
        title, points[0], points[-1], max(cost for _, cost in points), exponent(points),
        part in table.get("comparison", ()), **beside,
    )  # fmt: skip


HEADER = ("µs per item", "at least n", "at most n", "worst", "power of n", "of the floor", "")


def rows_of(found):
    return [
        (
            growth.title,
            *(f"{n}: {1e6 * cost:.3g}" for n, cost in (growth.smallest, growth.largest)),
            f"{1e6 * growth.worst:.3g}",
            f"{growth.power:.2f}",
            "" if growth.floor is None else f"{growth.of_floor:.2f} ({growth.power_of_floor:.2f})",
            growth.verdict,
        )
        for growth in found
    ]


def write_verdicts(found):
    """Puts the table of verdicts into the page."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * len(HEADER), *rows_of(found))]
    text = "\n".join(lines)
    block = re.compile(r"(<!-- verdicts -->\n).*?(<!-- end of verdicts -->)", re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(block.sub(lambda place: f"{place[1]}\n{text}\n\n{place[2]}", page), encoding="utf-8")


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
    parser.add_argument(
        "--docs", action="store_true", help="put result and plots into docs/growth, and the verdicts into its page"
    )
    options = parser.parse_args(argv)
    if options.docs and options.series != ",".join(TITLES):
        parser.error("--docs needs all series")
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
    found = growths(series)
    print(report.table(HEADER, rows_of(found)))
    result = {"machine": machine, "options": vars(options), "titles": TITLES, "series": series, "errors": errors}
    path = report.write("growth", result)
    draw(path, path.with_suffix(""))
    print(f"\nwritten to {os.path.relpath(path)}; plots in {os.path.relpath(path.with_suffix(''))}")
    if options.docs:
        DOCS.mkdir(exist_ok=True)
        for plot in path.with_suffix("").glob("*.svg"):
            shutil.copy(plot, DOCS)
        shutil.copy(path, DOCS / "growth.json")
        write_verdicts(found)
    return 1 if errors or any(growth.verdict == "MISSED" for growth in found) else 0
