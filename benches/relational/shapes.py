"""The shapes of relational work over more rows than memory holds: each system runs in a control group that ends it beyond its budget."""

import pathlib
import shutil
import sys
import tempfile

import group
import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "shapes_job.py"
SHAPES = ("sort", "join", "groupby", "shuffle")
SYSTEMS = ("aktis", "daft", "ray", "duckdb")
#: Of the budget, a system may hold so much: processes have memory of their own that nobody asked them to count.
ALLOWED = 1.25
#: The kernel ends who holds much more than that: others shall finish, if they can, and be told how much they took.
LIMIT = 2.0
GOAL_TIMES_RAY = 8.0


def python_for(system):
    of = {"daft": ray_env.daft_python, "ray": ray_env.ray_python, "duckdb": ray_env.relational_python}
    return of.get(system, lambda: sys.executable)()


def ensure_input(options):
    """The rows, made on first use and kept in the cache."""
    folder = ray_env.cache_folder() / f"shapes-{options.gb:g}"
    if not folder.exists():
        print(f"making the rows in {folder}", file=sys.stderr, flush=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        jobs.run(command("make", options, input=partial), options.limit_s)
        partial.rename(folder)
    return folder


def command(action, options, python=None, **named):
    """Files are made and verified with what Daft's environment has: any pyarrow does."""
    named = {"gb": f"{options.gb:g}", **named}
    arguments = [part for name, value in named.items() for part in (f"--{name}", value)]
    return [str(part) for part in (python or ray_env.daft_python(), JOB, action, *arguments)]


def measure_one(shape, system, source, target, options):
    """Seconds, the most bytes that were held, and why it was not done, if it was not."""
    run = command("run", options, python_for(system), shape=shape, system=system, input=source, output=target,
                  memory=options.memory, cpus=options.cpus)  # fmt: skip
    result = {"job_s": None, "peak_bytes": None, "error": None}
    with group.limited(int(options.memory * LIMIT)) as limited:
        try:
            done, _ = jobs.run(limited.command(run) if limited else run, options.limit_s)
            result["job_s"] = done["job_s"]
        except jobs.JobFailed as failure:
            is_killed = limited is not None and limited.kills > 0
            result["error"] = f"out of memory: {failure}" if is_killed else str(failure)
        if limited is not None:
            result["peak_bytes"] = limited.peak_bytes
    if result["error"] is None:
        try:
            jobs.run(command("verify", options, shape=shape, input=source, output=target), options.limit_s)
        except jobs.JobFailed as failure:
            result["error"] = f"wrong: {failure}"
    return result


def measure(shapes, options):
    """`{shape: {system: [result of each round]}}`."""
    source = ensure_input(options)
    systems = options.systems.split(",") if options.systems else SYSTEMS
    measured = {shape: {system: [] for system in systems} for shape in shapes}
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        for number in range(options.rounds):
            for shape in shapes:
                for system in systems if number % 2 == 0 else reversed(systems):
                    target = pathlib.Path(scratch) / f"{shape}-{system}"
                    result = measure_one(shape, system, source, target, options)
                    shutil.rmtree(target, ignore_errors=True)
                    measured[shape][system].append(result)
                    print(f"  {shape:8} {system:8} {_line(result, options)}", file=sys.stderr, flush=True)
    return measured


def _line(result, options):
    peak = result["peak_bytes"]
    held = f", held {peak / options.memory:.2f} of the budget" if peak is not None else ""
    seconds = report.number(result["job_s"], "s")
    return f"{result['error'] or seconds}{held}"


def render(measured, options):
    rows, faults = [], []
    for shape, cells in measured.items():
        medians = {
            system: report.median([one["job_s"] for one in results if one["error"] is None])
            for system, results in cells.items()
        }
        for system, results in cells.items():
            errors = [one["error"] for one in results if one["error"]]
            peaks = [one["peak_bytes"] for one in results if one["peak_bytes"] is not None]
            times_ray = medians["ray"] / medians[system] if medians.get("ray") and medians[system] else None
            held = max(peaks) / options.memory if peaks else None
            rows.append((
                shape,
                system,
                report.number(medians[system], "s") if not errors else "not done",
                f"{held:.2f}" if held is not None else "-",
                f"{times_ray:.1f}x" if times_ray else "-",
            ))  # fmt: skip
            if system == "aktis":
                faults += [f"{shape}: {error}" for error in errors]
                if held is not None and held > ALLOWED:
                    faults.append(f"{shape}: held {held:.2f} of the budget, more than {ALLOWED}")
                if times_ray is not None and times_ray < GOAL_TIMES_RAY:
                    faults.append(f"{shape}: {times_ray:.1f}x Ray Data, not {GOAL_TIMES_RAY:g}x")
            elif errors:
                rows.append(("", "", errors[0][:80], "", ""))
    title = f"\n{options.gb:g} GB within {options.memory >> 20} MiB"
    table = report.table(("shape", "system", "seconds", f"held / budget ({ALLOWED})", "to Ray Data"), rows)
    judged = "".join(f"\n{report.judge(False)}: {fault}" for fault in faults)
    return f"{title}\n{table}{judged}", not faults
