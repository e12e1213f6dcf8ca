"""Makes the input, runs the job on every system alternately, verifies the outputs and prints the ratios."""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile

import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "map_job.py"
SYSTEMS = ("pyarrow", "aktis", "ray")
TARGET_RATIO_TO_RAY = 5.0
TARGET_TIMES_THE_LOOP = 2.0
LIMIT_S = 600


def python_for(system):
    """The bare loop runs in Ray's environment, so that Aktis's needs no pyarrow of its own."""
    return ray_env.python_of("aktis" if system == "aktis" else "ray")


def ensure_input(rows, python):
    """The input folder, made on first use and kept in the cache."""
    folder = ray_env.cache_folder() / f"data-map-{rows}"
    if not folder.exists():
        print(f"making the input in {folder}", file=sys.stderr, flush=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        jobs.run([python, JOB, "make", "--input", partial, "--rows", rows], LIMIT_S)
        partial.rename(folder)
    return folder


def warm_page_cache(folder):
    """Reads the input once, so that no system pays for the disk. Returns its size in bytes."""
    size = 0
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            while chunk := file.read(1 << 24):
                size += len(chunk)
    return size


def measure(systems, source, options):
    """`{system: {"job_s": [...], "process_s": [...], "error": ...}}`, every output verified against the bare loop's."""
    measured = {system: {"job_s": [], "process_s": [], "error": None} for system in systems}
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        reference = pathlib.Path(scratch) / "reference"
        _job("pyarrow", source, reference, options)
        for round_index in range(options.rounds):
            for system in systems if round_index % 2 == 0 else reversed(systems):
                target = pathlib.Path(scratch) / f"{system}-{round_index}"
                try:
                    result, process_s = _job(system, source, target, options)
                    jobs.run([python_for("pyarrow"), JOB, "verify", "--output", target, "--reference",
                              reference], LIMIT_S)  # fmt: skip
                except jobs.JobFailed as failure:
                    measured[system]["error"] = str(failure)
                    print(f"  {system:8} {failure}", file=sys.stderr, flush=True)
                else:
                    measured[system]["job_s"].append(result["job_s"])
                    measured[system]["process_s"].append(process_s)
                    note = f"{result['job_s']:.2f} s, process {process_s:.2f} s"
                    print(f"  {system:8} {note}", file=sys.stderr, flush=True)
                shutil.rmtree(target, ignore_errors=True)
    return measured


def _job(system, source, target, options):
    command = [python_for(system), JOB, "run", "--system", system, "--input", source, "--output", target,
               "--cpus", options.cpus]  # fmt: skip
    return jobs.run(command, LIMIT_S)


def render(measured, size):
    jobs_s = {system: report.median(cell["job_s"]) for system, cell in measured.items()}
    rows = []
    for system, cell in measured.items():
        mine, loop, ray = jobs_s[system], jobs_s.get("pyarrow"), jobs_s.get("ray")
        rows.append((
            {"pyarrow": "bare pyarrow loop", "aktis": "Aktis", "ray": "Ray Data"}[system],
            report.number(mine, "s") if mine else "error",
            report.number(report.median(cell["process_s"]), "s"),
            f"{size / mine / 1e6:.0f} MB/s" if mine else "-",
            f"{mine / loop:.2f}x" if mine and loop else "-",
            f"{ray / mine:.1f}x" if mine and ray else "-",
        ))  # fmt: skip
    header = ("system", "job", "whole process", "throughput", "times the loop", "faster than Ray")
    text = report.table(header, rows)
    mine, loop, ray = (jobs_s.get(system) for system in ("aktis", "pyarrow", "ray"))
    if mine and ray:
        text += f"\n{report.judge(ray / mine >= TARGET_RATIO_TO_RAY)}: >= {TARGET_RATIO_TO_RAY}x faster than Ray Data"
    if mine and loop:
        text += f"\n{report.judge(mine / loop <= TARGET_TIMES_THE_LOOP)}: within {TARGET_TIMES_THE_LOOP}x of the loop"
    errors = [f"  {system}: {cell['error']}" for system, cell in measured.items() if cell["error"]]
    return text + ("\n\nerrors:\n" + "\n".join(errors) if errors else "")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py data_map", description="A cheap function over 1 GB of Parquet.")
    parser.add_argument("--rows", type=int, default=320_000, help="rows of 3072 bytes")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(argv)
    systems = tuple(options.systems.split(","))
    machine = report.machine()
    source = ensure_input(options.rows, python_for("pyarrow"))
    size = warm_page_cache(source)
    measured = measure(systems, source, options)
    print(render(measured, size))
    result = {"machine": machine, "options": vars(options), "input_bytes": size, "systems": measured}
    print(f"\nwritten to {os.path.relpath(report.write('data_map', result))}")
    return 1 if any(cell["error"] for cell in measured.values()) else 0
