"""Runs the rows of `core` and the job of `data_map` on two builds of Aktis, alternately, and says which rows differ.

A round is a pair of processes per row, which take turns window by window; the job of `data_map` alternates as a whole. The
interval is that of the median over the rounds.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

import ray_env
import report

BENCHES = pathlib.Path(__file__).resolve().parent.parent
CORE, JOB = BENCHES / "core" / "core_bench.py", BENCHES / "data_map" / "map_job.py"
THIS_CLONE = BENCHES.parent / "python-bindings" / "python"
DATA_ROW = "data_map"
#: What the lines of `core_bench.py` that are for its parent begin with.
ROW_MARK = "@row "
#: A row may lose this share of its speed, no more.
LEAST_RATIO = 0.97
RESAMPLES = 10_000
LIMIT_S = 900


def load(path):
    """A script beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def output_of(package, command):
    """What `command` prints with the Aktis that lies in `package`."""
    environment = {**ray_env.environment(), "PYTHONPATH": str(package)}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, cwd=BENCHES, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{package}: {' '.join(map(str, command))}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout.splitlines()


class Side:
    """A process that measures one row with one build, a window at a time, whenever it is told to."""

    def __init__(self, package, row, options):
        self.package, self.row = package, row
        command = [sys.executable, CORE, "--system", "aktis", "--rows", row.name, "--stepped",
                   "--window-seconds", str(options.window_seconds), "--cpus", str(options.cpus)]  # fmt: skip
        environment = {**ray_env.environment(), "PYTHONPATH": str(package)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=BENCHES
        )

    def speed(self):
        """One window: things per second, or the reciprocal of its seconds."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if not line.startswith(ROW_MARK):
                continue
            message = json.loads(line.removeprefix(ROW_MARK))
            if "error" in message:
                raise SystemExit(f"{self.package}: {self.row.name}: {message['error']}")
            if "value" in message:
                return 1 / message["value"] if self.row.is_time else message["value"]
        raise SystemExit(f"{self.package}: {self.row.name}: ended with {self.process.wait()}")

    def end(self):
        """Closes its input, upon which it shuts its session down."""
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait(LIMIT_S)


def row_ratio(row, options, chance):
    """New over old: the median of windows that two processes take in turns, each pair in an order of chance.

    Both processes live at once and a pair of windows takes a fraction of a second, so that what else the machine does meets
    both alike.
    """
    new, old = Side(options.new, row, options), Side(options.old, row, options)
    ratios = []
    for _ in range(options.windows):
        speeds = {side: side.speed() for side in chance.sample([new, old], 2)}
        ratios.append(speeds[new] / speeds[old])
    new.end()
    old.end()
    return statistics.median(ratios)


def data_speed(package, source, options):
    """Jobs per second of `data_map`, without the start of the session."""
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        target = pathlib.Path(scratch) / "out"
        command = [sys.executable, JOB, "run", "--system", "aktis", "--input", source, "--output", target]
        seconds = json.loads(output_of(package, command)[-1])["job_s"]
        shutil.rmtree(target)
    return 1 / seconds


def interval(ratios, chance):
    """The 95 % interval of the median of `ratios`, by resampling them."""
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def verdict(low, high):
    """What the interval allows to say."""
    if low > LEAST_RATIO:
        return "ok"
    return "SLOWER" if high < 1 else "unsure"


def main(arguments):
    """Prints the table; exit status 1 if a row is slower."""
    parser = argparse.ArgumentParser(prog="run.py builds", description=__doc__)
    parser.add_argument("old", type=pathlib.Path, help="folder with the aktis package of the build before")
    parser.add_argument("--new", type=pathlib.Path, default=THIS_CLONE)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", help="names of rows of core; all by default")
    parser.add_argument("--skip-data", action="store_true", help="without the job of data_map")
    parser.add_argument("--data-rows", type=int, default=320_000)
    parser.add_argument("--windows", type=int, default=10, help="pairs of windows in a round")
    parser.add_argument("--window-seconds", type=float, default=0.1)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(arguments)
    # The measured processes run in another folder.
    options.old, options.new = options.old.resolve(), options.new.resolve()
    packages = [options.old, options.new]
    for package in packages:
        if not (package / "aktis" / "_aktis.abi3.so").exists():
            parser.error(f"{package} holds no built aktis package: run `make build` in its clone")
    table = load(CORE).ROWS
    rows = options.rows.split(",") if options.rows else [name for name in table if not name.startswith("floor")]
    source = None
    if not options.skip_data:
        data_map = load(BENCHES / "data_map" / "compare.py")
        source = data_map.ensure_input(options.data_rows, sys.executable)
        data_map.warm_page_cache(source)
    chance = random.Random(1)
    ratios = {name: [] for name in (*rows, *([DATA_ROW] if source else []))}
    for number in range(options.rounds):
        for name in rows:
            ratios[name].append(row_ratio(table[name], options, chance))
        if source:
            speeds = {package: data_speed(package, source, options) for package in chance.sample(packages, 2)}
            ratios[DATA_ROW].append(speeds[options.new] / speeds[options.old])
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    lines, is_slower = [], False
    for name, values in ratios.items():
        low, high = interval(values, chance)
        lines.append([name, f"{statistics.median(values):.3f}", f"{low:.3f} - {high:.3f}", verdict(low, high)])
        is_slower |= lines[-1][-1] == "SLOWER"
    load_now = os.getloadavg()[0]
    print(report.table(["row", "new / old", "95 % interval", ""], lines))
    print(f"{options.rounds} rounds, load {load_now:.1f} at the end")
    return int(is_slower)
