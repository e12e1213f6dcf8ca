"""Makes the files, runs the jobs on every system alternately, verifies what they say and prints the ratios."""

import argparse
import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
JOB = HERE / "files_job.py"
NAMES = {"pyarrow": "bare pyarrow loop", "aktis": "Aktis", "daft": "Daft", "ray": "Ray Data"}
ROWS_PER_FILE = 100
#: `double` and `look` are one measurement: of small files here.
JOBS = ("small", "store", "first_row")


def _far():
    """What measures files that are far, beside this file."""
    spec = importlib.util.spec_from_file_location("files_far", HERE / "far.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_for(system):
    """The bare loop runs in Ray's environment, so that Aktis's needs no pyarrow of its own."""
    if system == "daft":
        return ray_env.daft_python()
    return ray_env.python_of("aktis" if system == "aktis" else "ray")


def ensure_input(files):
    """The folder of so many files, made on first use and kept in the cache."""
    folder = ray_env.cache_folder() / f"files-{files}"
    if not folder.exists():
        print(f"making {files} files in {folder}", file=sys.stderr, flush=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        jobs.run([python_for("pyarrow"), JOB, "make", "--input", partial, "--files", files], 3600)
        partial.rename(folder)
    return folder


def measure(systems, options):
    """`{system: {"results": {name of a figure: [...]}, "errors": {...}}}`, of rounds that alternate."""
    measured = {system: {"results": {}, "errors": {}} for system in systems}
    few, many = ensure_input(options.files), ensure_input(options.many)
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        for round_index in range(options.rounds):
            for system in systems if round_index % 2 == 0 else reversed(systems):
                target = pathlib.Path(scratch) / f"{system}-{round_index}"
                for action, source in (("double", few), ("look", many)):
                    command = [python_for(system), JOB, action, "--system", system, "--input", source,
                               "--output", target, "--cpus", options.cpus]  # fmt: skip
                    _note(measured[system], system, action, command, source, target, options)
                shutil.rmtree(target, ignore_errors=True)
    return measured


def _note(cell, system, action, command, source, target, options):
    try:
        result, process_s = jobs.run(command, options.limit_s)
        if action == "double":
            verify = [python_for("pyarrow"), JOB, "verify", "--input", source, "--output", target]
            jobs.run(verify, options.limit_s)
        elif result["rows"] != options.many * ROWS_PER_FILE:
            raise jobs.JobFailed(f"counted {result['rows']} rows")
    except jobs.JobFailed as failure:
        cell["errors"][action] = str(failure)
        print(f"  {system:8} {action:7} {failure}", file=sys.stderr, flush=True)
        return
    figures = {**result, "process_s": process_s}
    for name, value in figures.items():
        cell["results"].setdefault(f"{action}.{name}", []).append(value)
    said = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if name.endswith("_s"))
    print(f"  {system:8} {action:7} {said}", file=sys.stderr, flush=True)


def render(measured, options):
    figures = {
        "double.job_s": f"{options.files} files doubled",
        "look.first_row_s": f"first row of {options.many}",
        "look.count_s": "their rows counted",
    }
    rows = []
    for system, cell in measured.items():
        line = [NAMES[system]]
        for name in figures:
            value = report.median(cell["results"].get(name, []))
            floor = report.median(measured.get("pyarrow", {"results": {}})["results"].get(name, []))
            times = f" ({value / floor:.2f}x)" if value and floor and name != "look.first_row_s" else ""
            line.append(f"{report.number(value, 's')}{times}" if value else "not done")
        peak = report.median(cell["results"].get("look.driver_peak_bytes", []))
        rows.append((*line, f"{peak / 1e6:.0f} MB" if peak else "-"))
    text = report.table(("system", *figures.values(), "driver's peak"), rows)
    errors = [f"  {s} {action}: {said}" for s, cell in measured.items() for action, said in cell["errors"].items()]
    return text + ("\n\nerrors:\n" + "\n".join(errors) if errors else "")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py files", description="Many small files, and files that are far.")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which of these are measured")
    parser.add_argument("--files", type=int, default=5000, help="of a hundred rows each, that are doubled and written")
    parser.add_argument("--many", type=int, default=200_000, help="of a hundred rows each, that are looked at")
    parser.add_argument("--store-files", type=int, default=16, help="large files in the store")
    parser.add_argument("--store-rows", type=int, default=10_000, help="rows of 3072 bytes in each of them")
    parser.add_argument("--latency-ms", type=float, default=20, help="of every answer of the store")
    parser.add_argument("--connections", type=int, default=16, help="answers of the store that are under way at once")
    parser.add_argument("--connection-mbs", type=float, default=8, help="megabytes a second of each")
    parser.add_argument("--systems", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--limit-s", type=int, default=300, help="of one process; what takes longer is not done")
    options = parser.parse_args(argv)
    wanted = options.jobs.split(",")
    if not set(wanted) <= set(JOBS):
        parser.error(f"--jobs: one or more of {', '.join(JOBS)}")
    result = {"machine": report.machine(), "options": vars(options)}
    failed = False
    if "small" in wanted:
        result["systems"] = measured = measure(tuple(options.systems.split(",")), options)
        print(render(measured, options))
        failed = bool(measured.get("aktis", {"errors": {}})["errors"])
    if set(wanted) - {"small"}:
        far = _far()
        bucket = far.ensure_input(options, ensure_input(options.files))
        if "store" in wanted:
            result["store"] = store = far.measure_store(bucket, options)
            print("\n" + far.render_store(store, options))
            failed |= bool(store.get("aktis", {"errors": []})["errors"])
        if "first_row" in wanted:
            result["first_row"] = first = far.measure_first_rows(bucket, options)
            print("\n" + far.render_first_rows(first))
            failed |= any(cell["errors"] for cell in first.get("aktis", {}).values())
    print(f"\nwritten to {os.path.relpath(report.write('files', result))}")
    return 1 if failed else 0
