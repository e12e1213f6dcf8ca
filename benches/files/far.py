"""Measures the jobs over files that are far, and how long first rows take: those of `store_job.py`, beside the floor and others."""

import contextlib
import pathlib
import shutil
import subprocess
import sys

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
JOB, SERVER = HERE / "store_job.py", HERE / "store_server.py"
NAMES = {"pool": "bare pool", "aktis": "Aktis", "daft": "Daft", "ray": "Ray Data"}
#: What first rows are asked of: the format, the folder below that of all inputs, and whether it is far.
FIRST_ROWS = {
    "local, large files": ("parquet", "store", False),
    "local, small files": ("parquet", "small", False),
    "far, large files": ("parquet", "store", True),
    "far, small files": ("parquet", "small", True),
    "CSV": ("csv", "csv", False),
    "JSON": ("json", "json", False),
    "far CSV": ("csv", "csv", True),
}
_TEXT_ROWS = 1_000_000


def python_for(system):
    """The floor runs in Ray's environment, which has pyarrow."""
    if system == "daft":
        return ray_env.daft_python()
    return ray_env.python_of("aktis" if system == "aktis" else "ray")


def ensure_input(options, small):
    """The folder of all inputs: `small` are the small files, which others measure too."""
    bucket = ray_env.cache_folder() / f"far-{options.store_files}x{options.store_rows}-{options.files}"
    bucket.mkdir(exist_ok=True)
    folder = bucket / "store"
    if not folder.exists():
        print(f"making {folder}", file=sys.stderr, flush=True)
        partial = bucket / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        jobs.run([python_for("pool"), JOB, "make", "--input", partial, "--files", options.store_files,
                  "--rows", options.store_rows], 3600)  # fmt: skip
        partial.rename(folder)
    jobs.run([python_for("pool"), JOB, "texts", "--input", bucket, "--rows", _TEXT_ROWS], 3600)
    if not (bucket / "small").exists():
        (bucket / "small").symlink_to(small, target_is_directory=True)
    return bucket


@contextlib.contextmanager
def served(folder, options):
    """The endpoint of a store over `folder`, while it runs."""
    command = [sys.executable, SERVER, "--folder", folder, "--latency-ms", options.latency_ms,
               "--connections", options.connections, "--connection-mbs", options.connection_mbs]  # fmt: skip
    server = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.communicate()


def turns(systems, rounds):
    """Systems in their turns: there and back."""
    for number in range(rounds):
        yield from systems if number % 2 == 0 else reversed(systems)


def measure_store(bucket, options):
    """`{system: {"job_s": [...], "errors": [...]}}`: all bytes of a column of files that are far."""
    systems = [system for system in NAMES if system == "pool" or system in options.systems.split(",")]
    measured = {system: {"job_s": [], "errors": []} for system in systems}
    with served(bucket.parent, options) as endpoint:
        for system in turns(systems, options.rounds):
            command = [python_for(system), JOB, "read", "--system", system, "--endpoint", endpoint, "--path",
                       f"{bucket.name}/store", "--connections", options.connections, "--cpus", options.cpus]  # fmt: skip
            try:
                result, _ = jobs.run(command, options.limit_s)
                if result["rows"] != options.store_files * options.store_rows:
                    raise jobs.JobFailed(f"read {result['rows']} rows")
            except jobs.JobFailed as failure:
                measured[system]["errors"].append(str(failure))
                print(f"  {system:8} store   {failure}", file=sys.stderr, flush=True)
                continue
            measured[system]["job_s"].append(result["job_s"])
            print(f"  {system:8} store   {result['job_s']:.2f}", file=sys.stderr, flush=True)
    return measured


def render_store(measured, options):
    size = options.store_files * options.store_rows * 3072
    floor = report.median(measured["pool"]["job_s"])
    rows = []
    for system, cell in measured.items():
        job = report.median(cell["job_s"])
        times = f"{job / floor:.2f}x" if job and floor else "-"
        rate = f"{size / job / 1e6:.0f} MB/s" if job else "not done"
        rows.append((NAMES[system], report.number(job, "s"), rate, times))
    given = options.connections * options.connection_mbs
    head = f"{size / 1e6:.0f} MB that are far: {options.connections} connections, together {given:g} MB/s, {options.latency_ms:g} ms"
    return f"{head}\n" + report.table(("system", "read", "rate", "times the pool"), rows)


def measure_first_rows(bucket, options):
    """`{system: {case: {"first_row_s": [...], "errors": [...]}}}`."""
    systems = [system for system in NAMES if system != "pool" and system in options.systems.split(",")]
    measured = {system: {case: {"first_row_s": [], "errors": []} for case in FIRST_ROWS} for system in systems}
    with served(bucket.parent, options) as endpoint:
        for system in turns(systems, options.rounds):
            for case, (format, folder, is_far) in FIRST_ROWS.items():
                where = (
                    ["--endpoint", endpoint, "--path", f"{bucket.name}/{folder}"]
                    if is_far
                    else ["--path", bucket / folder]
                )
                command = [python_for(system), JOB, "first", "--system", system, "--format", format, *where,
                           "--cpus", options.cpus]  # fmt: skip
                try:
                    result, _ = jobs.run(command, options.limit_s)
                except jobs.JobFailed as failure:
                    measured[system][case]["errors"].append(str(failure))
                    print(f"  {system:8} first row, {case}: {failure}", file=sys.stderr, flush=True)
                    continue
                measured[system][case]["first_row_s"].append(result["first_row_s"])
                print(f"  {system:8} first row, {case}: {result['first_row_s']:.2f}", file=sys.stderr, flush=True)
    return measured


def render_first_rows(measured):
    rows = [
        (case, *(report.number(report.median(cell[case]["first_row_s"]), "s") for cell in measured.values()))
        for case in FIRST_ROWS
    ]
    return report.table(("first row", *(NAMES[system] for system in measured)), rows)
