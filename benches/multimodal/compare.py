"""Makes the inputs, runs the pipelines on every system alternately, verifies the outputs and prints the ratios."""

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
JOB = HERE / "multimodal_job.py"
MODEL = HERE.parent.parent / ".models" / "all-MiniLM-L6-v2"
NAMES = {"loop": "bare loop", "aktis": "Aktis", "aktis-windows": "Aktis, by length", "daft": "Daft", "ray": "Ray Data"}
#: Only texts have lengths.
ONLY = {"aktis-windows": ("documents", "texts")}
#: Rows of the input, so that the loop takes some ten seconds on two cores.
ROWS = {"images": 2000, "pictures": 2000, "documents": 150, "texts": 3000}


def command_of(pipeline, action, options, **paths):
    """All systems run in one environment, so that they share the versions of what computes."""
    named = [part for name, path in paths.items() for part in (f"--{name}", path)]
    return [ray_env.multimodal_python(), JOB, action, "--pipeline", pipeline, "--model", options.model,
            "--cpus", options.cpus, *named]  # fmt: skip


def ensure_input(pipeline, options):
    """The input of a pipeline, made on first use and kept in the cache."""
    rows = options.rows or ROWS[pipeline]
    folder = ray_env.cache_folder() / f"multimodal-{pipeline}-{rows}"
    if not folder.exists():
        print(f"making {folder}", file=sys.stderr, flush=True)
        # Paths of files are in the tables: what is half made is not moved but made again.
        try:
            jobs.run(command_of(pipeline, "make", options, input=folder, rows=rows), options.limit_s)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def measure(pipeline, systems, options):
    """`{system: {"job_s": [...], "process_s": [...], "error": ...}}`, each output verified against the loop's."""
    source = ensure_input(pipeline, options)
    measured = {system: {"job_s": [], "process_s": [], "error": None} for system in systems}
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        reference = pathlib.Path(scratch) / "reference"
        jobs.run([*command_of(pipeline, "run", options, input=source, output=reference), "--system", "loop"],
                 options.limit_s)  # fmt: skip
        for round_index in range(options.rounds):
            for system in systems if round_index % 2 == 0 else reversed(systems):
                target = pathlib.Path(scratch) / f"{system}-{round_index}"
                run = [*command_of(pipeline, "run", options, input=source, output=target), "--system", system]
                cell = measured[system]
                try:
                    result, process_s = jobs.run(run, options.limit_s)
                    jobs.run(
                        command_of(pipeline, "verify", options, output=target, reference=reference), options.limit_s
                    )
                except jobs.JobFailed as failure:
                    cell["error"] = str(failure)
                    print(f"  {pipeline:9} {system:8} {failure}", file=sys.stderr, flush=True)
                else:
                    cell["job_s"].append(result["job_s"])
                    cell["process_s"].append(process_s)
                    print(f"  {pipeline:9} {system:8} {result['job_s']:.2f} s", file=sys.stderr, flush=True)
                shutil.rmtree(target, ignore_errors=True)
    return measured


def render(pipelines, systems):
    rows = []
    for pipeline, measured in pipelines.items():
        medians = dict.fromkeys(systems)
        medians |= {system: report.median(cell["job_s"]) for system, cell in measured.items()}
        floor = medians.get("loop")
        line = [pipeline]
        for system in systems:
            mine = medians[system]
            share = f" ({floor / mine:.2f})" if floor and mine and system != "loop" else ""
            line.append(f"{report.number(mine, 's')}{share}" if mine else "not done" if system in measured else "")
        rows.append(line)
    text = report.table(("job (share of the loop's rate)", *(NAMES[system] for system in systems)), rows)
    errors = [
        f"  {pipeline}, {system}: {cell['error']}"
        for pipeline, measured in pipelines.items()
        for system, cell in measured.items()
        if cell["error"]
    ]
    return text + ("\n\nerrors:\n" + "\n".join(errors) if errors else "")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py multimodal", description="Pictures, PDFs and texts to models.")
    parser.add_argument("--pipelines", default=",".join(ROWS))
    parser.add_argument("--systems", default=",".join(NAMES))
    parser.add_argument("--rows", type=int, help="of the input, instead of the number for each pipeline")
    parser.add_argument("--model", type=pathlib.Path, default=MODEL, help="the folder that `make model` has made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--limit-s", type=int, default=600, help="of one process; what takes longer is not done")
    options = parser.parse_args(argv)
    package = pathlib.Path(importlib.util.find_spec("aktis").origin).parent.parent
    # Processes that Daft starts find the steps by it.
    os.environ["PYTHONPATH"] = os.pathsep.join((str(package), str(HERE)))
    systems = tuple(options.systems.split(","))
    machine = report.machine()
    measured = {
        pipeline: measure(pipeline, [system for system in systems if pipeline in ONLY.get(system, ROWS)], options)
        for pipeline in options.pipelines.split(",")
    }
    print(render(measured, systems))
    path = report.write("multimodal", {"machine": machine, "options": {**vars(options), "model": str(options.model)},
                                       "pipelines": measured})  # fmt: skip
    print(f"\nwritten to {os.path.relpath(path)}")
    return 1 if any(cell["aktis"]["error"] for cell in measured.values() if "aktis" in cell) else 0
