"""Runs `core_bench.py` on both systems, alternately, and prints the ratio of every row."""

import argparse
import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import core_bench

SYSTEMS = ("aktis", "ray")
FLOORS = ("floor_round_trip", "floor_memcpy")

#: Rows with a second target, a share of a floor measured in the same run: row -> (floor, share).
FLOOR_TARGETS = {
    "actor_sync": ("floor_round_trip", 0.6),
    "put_200mb": ("floor_memcpy", 0.9),
    "put_200mb_numpy": ("floor_memcpy", 0.9),
}

#: Seconds above a row's own limit after which its process is ended from outside.
GRACE_S = 20


def run_child(system, names, options):
    """Runs the rows in one process. Yields each message; a process that hangs is killed, which the last one says."""
    command = [
        ray_env.python_of(system), "-u", str(HERE / "core_bench.py"), "--system", system, "--rows", ",".join(names),
        "--windows", str(options.windows), "--window-seconds", str(options.window_seconds), "--cpus", str(options.cpus),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as printed:  # a pipe that nobody reads would block the child
        child = subprocess.Popen(
            command, env=ray_env.environment(), stdout=subprocess.PIPE, stderr=printed if options.quiet else None,
            start_new_session=True, cwd=HERE,
        )  # fmt: skip
        try:
            yield from read_messages(child, names)
            yield {"ended": f"exited with status {child.wait(GRACE_S)} {_tail(printed)}".strip()}
        except TimeoutError:
            yield {"ended": "killed: it did not stop at its time limit"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def read_messages(child, names):
    """The messages of a child until it closes its output; `TimeoutError` when a row outlives its limit by far."""
    limit_s, buffer = core_bench.ROWS[names[0]].limit_s, b""
    deadline = time.monotonic() + limit_s + GRACE_S
    while True:
        readable, _, _ = select.select([child.stdout], [], [], max(0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        chunk = os.read(child.stdout.fileno(), 65536)
        if not chunk:
            return
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"@row "):
                message = json.loads(line[5:])
                limit_s = core_bench.ROWS[message["begin"]].limit_s if "begin" in message else limit_s
                deadline = time.monotonic() + limit_s + GRACE_S
                yield message


def _tail(printed):
    """The last line that a process wrote to its standard error."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def run_rows(system, names, options):
    """The result of every row of one round. A row that takes its process down does not take the next rows with it."""
    results, remaining = {}, list(names)
    while remaining:
        current = remaining[0]
        for message in run_child(system, remaining, options):
            if "begin" in message:
                current = message["begin"]
            elif "row" in message:
                results[message["row"]] = message
                _progress(system, message)
            elif current not in results:
                results[current] = {"row": current, "error": message["ended"]}
                _progress(system, results[current])
        if not set(remaining) & set(results):
            results[remaining[0]] = {"row": remaining[0], "error": "the process ended before the row began"}
        remaining = [name for name in remaining if name not in results]
    return results


def _progress(system, message):
    if "error" in message:
        text = message["error"].splitlines()[0][:120]
    else:
        text = report.number(report.median(message["values"]), core_bench.ROWS[message["row"]].unit)
    print(f"  {system:6} {message['row']:20} {text}", file=sys.stderr, flush=True)


def collect(systems, names, options):
    """All windows of all rounds: `{row: {system: {"values": [...], "error": ...}}}`."""
    collected = {name: {system: {"values": [], "error": None} for system in systems} for name in names}
    for round_index in range(options.rounds):
        order = systems if round_index % 2 == 0 else tuple(reversed(systems))
        for system in order:
            print(f"round {round_index + 1} of {options.rounds}: {system}", file=sys.stderr, flush=True)
            for name, result in run_rows(system, names, options).items():
                cell = collected[name][system]
                cell["values"] += result.get("values", [])
                cell["error"] = result.get("error") or cell["error"]
    return collected


def judge(name, cells, floors):
    """One line of the table, as a dictionary."""
    chosen = core_bench.ROWS[name]
    ours, theirs = (report.median(cells.get(system, {}).get("values", [])) for system in SYSTEMS)
    line = {
        "row": name, "title": chosen.title, "unit": chosen.unit, "aktis": ours, "ray": theirs,
        "ratio": None, "target": chosen.target_ratio, "most_s": chosen.most_s, "of_floor": None,
        "spread": {system: report.spread(cell["values"]) for system, cell in cells.items()},
        "windows": {system: cell["values"] for system, cell in cells.items()},
        "errors": {system: cell["error"] for system, cell in cells.items() if cell["error"]},
    }  # fmt: skip
    if ours and theirs and name not in FLOORS:
        line["ratio"] = theirs / ours if chosen.is_time else ours / theirs
    if name in FLOOR_TARGETS and ours:
        floor, target = FLOOR_TARGETS[name]
        if floors.get(floor):
            line["of_floor"] = {"floor": floor, "share": ours / floors[floor], "target": target}
    return line


def verdict(line):
    """`ok` or `MISSED`, from the ratio to Ray, the share of the floor and the seconds, as far as they are known."""
    reached = []
    if line["ratio"] and line["target"]:
        reached.append(line["ratio"] >= line["target"])
    if line["of_floor"]:
        reached.append(line["of_floor"]["share"] >= line["of_floor"]["target"])
    if line["aktis"] and line["most_s"]:
        reached.append(line["aktis"] < line["most_s"])
    return report.judge(all(reached)) if reached else ""


def target_of(line):
    if not line["target"]:
        return "-"
    return f"{line['target']}x" + (f", < {report.number(line['most_s'], 's')}" if line["most_s"] else "")


def render(lines):
    rows = []
    for line in lines:
        cells = [line["title"]]
        for system in SYSTEMS:
            failed = line["errors"].get(system) and line[system] is None
            cells.append("error" if failed else report.number(line[system], line["unit"]))
        share = line["of_floor"]
        cells.append(f"{line['ratio']:.1f}x" if line["ratio"] else "-")
        cells.append(target_of(line))
        cells.append(f"{share['share']:.0%} (>= {share['target']:.0%})" if share else "-")
        cells.append(verdict(line))
        rows.append(cells)
    header = ("row", "Aktis", "Ray", "ratio", "target", "of floor", "")
    text = report.table(header, rows)
    errors = [f"  {line['row']} on {system}: {error}" for line in lines for system, error in line["errors"].items()]
    return text + ("\n\nerrors:\n" + "\n".join(errors) if errors else "")


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py core", description="Calls, objects and start-up against Ray.")
    parser.add_argument("--rows", default=",".join(core_bench.ROWS), help="names, comma-separated; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=2, help="processes per system, alternating")
    parser.add_argument("--windows", type=int, default=3, help="windows per row in each process")
    parser.add_argument("--window-seconds", type=float, default=1.0)
    parser.add_argument("--cpus", type=int, default=2, help="logical CPUs of the session")
    parser.add_argument("--loud", dest="quiet", action="store_false", help="show what the systems print")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed or a row failed")
    return parser.parse_args(argv)


def main(argv):
    options = parse(argv)
    if options.list:
        for name, chosen in core_bench.ROWS.items():
            print(f"{name:20} {chosen.title}")
        return 0
    names, systems = options.rows.split(","), tuple(options.systems.split(","))
    unknown = [name for name in names if name not in core_bench.ROWS]
    if unknown:
        print(f"no such row: {', '.join(unknown)}", file=sys.stderr)
        return 2
    names += sorted({FLOOR_TARGETS[name][0] for name in names if name in FLOOR_TARGETS} - set(names))
    machine = report.machine()
    collected = collect(systems, names, options)
    floors = {
        name: report.median([value for cell in collected[name].values() for value in cell["values"]])
        for name in FLOORS if name in collected
    }  # fmt: skip
    lines = [judge(name, collected[name], floors) for name in names]
    print(render(lines))
    versions = {system: report.version_of(ray_env.python_of(system), system) for system in systems}
    path = report.write("core", {"machine": machine, "versions": versions, "options": vars(options), "rows": lines})
    print(f"\nwritten to {os.path.relpath(path)}")
    failed = any(verdict(line) == "MISSED" or line["errors"] for line in lines)
    return 1 if options.check and failed else 0
