"""Runs the embedding job on every system alternately, compares the vectors and prints the rates."""

import argparse
import os
import pathlib
import sys
import tempfile

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
JOB = HERE / "embed_job.py"
MODEL = HERE.parent.parent / ".models" / "all-MiniLM-L6-v2"
TITLES = {
    "loop": "bare ONNX Runtime loop, same batches",
    "loop32": "bare ONNX Runtime loop, 32 rows per batch",
    "aktis": "Aktis, TextEmbedder",
    "ray": "Ray Data + sentence-transformers",
}
TARGET_RATIO_TO_RAY = 2.5
TARGET_SHARE_OF_LOOP = 0.9
TARGET_COSINE = 0.9999
LIMIT_S = 900
FEW_ROWS = 64  # as in embed_job.py


def python_for(system):
    """The bare loops need `tokenizers` and `onnxruntime`, which Ray's environment has."""
    return ray_env.python_of("aktis" if system == "aktis" else "ray", embed=True)


def measure(systems, options):
    """Per system its rates, its lowest cosine to the reference (Ray if chosen, else the first system), its error."""
    measured = {
        name: {"rows_per_s": [], "margin_rows_per_s": [], "cosine_min": None, "error": None} for name in systems
    }
    reference_system = "ray" if "ray" in systems else systems[0]
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        source = pathlib.Path(scratch) / "input"
        jobs.run([python_for("ray"), JOB, "make", "--input", source, "--rows", options.rows], LIMIT_S)
        outputs = {}
        for round_index in range(options.rounds):
            for name in systems if round_index % 2 == 0 else reversed(systems):
                target = pathlib.Path(scratch) / f"{name}-{round_index}"
                _measure_once(name, source, target, options, measured[name])
                outputs.setdefault(name, target)
        for name in systems:
            _compare(name, outputs[name], outputs[reference_system], measured[name])
    return measured


def _measure_once(name, source, target, options, cell):
    command = [python_for(name), JOB, "run", "--system", name, "--model", options.model, "--input", source,
               "--output", target, "--cpus", options.cpus]  # fmt: skip
    try:
        result, process_s = jobs.run(command, LIMIT_S)
    except jobs.JobFailed as failure:
        cell["error"] = str(failure)
        print(f"  {name:8} {failure}", file=sys.stderr, flush=True)
        return
    cell["rows_per_s"].append(options.rows / result["all_s"])
    cell["margin_rows_per_s"].append((options.rows - FEW_ROWS) / (result["all_s"] - result["few_s"]))
    cell.setdefault("raw", []).append({**result, "process_s": process_s})
    print(f"  {name:8} {options.rows / result['all_s']:.1f} rows/s", file=sys.stderr, flush=True)


def _compare(name, output, reference, cell):
    if cell["error"] or not (output / "all").exists():
        return
    command = [python_for("ray"), JOB, "compare", "--output", output, "--reference", reference]
    try:
        result, _ = jobs.run(command, LIMIT_S)
    except jobs.JobFailed as failure:
        cell["error"] = f"comparing the vectors: {failure}"
        return
    cell["cosine_min"] = result["cosine_min"]
    if result["cosine_min"] < TARGET_COSINE:
        cell["error"] = f"the lowest cosine to the reference is {result['cosine_min']:.6f}"


def render(measured):
    rates = {name: report.median(cell["rows_per_s"]) for name, cell in measured.items()}
    rows = []
    for name, cell in measured.items():
        mine, loop, ray = rates[name], rates.get("loop"), rates.get("ray")
        rows.append((
            TITLES[name],
            f"{mine:.1f} rows/s" if mine else "error",
            f"{report.median(cell['margin_rows_per_s']):.1f} rows/s" if mine else "-",
            f"{cell['cosine_min']:.7f}" if cell["cosine_min"] else "-",
            f"{mine / loop:.0%}" if mine and loop else "-",
            f"{mine / ray:.2f}x" if mine and ray else "-",
        ))  # fmt: skip
    text = report.table(("system", "job", "without loading", "lowest cosine", "of the loop", "ratio to Ray"), rows)
    mine, loop, ray = (rates.get(name) for name in ("aktis", "loop", "ray"))
    if mine and ray:
        text += f"\n{report.judge(mine / ray >= TARGET_RATIO_TO_RAY)}: >= {TARGET_RATIO_TO_RAY}x Ray Data"
    if mine and loop:
        text += f"\n{report.judge(mine / loop >= TARGET_SHARE_OF_LOOP)}: >= {TARGET_SHARE_OF_LOOP:.0%} of the loop"
    errors = [f"  {name}: {cell['error']}" for name, cell in measured.items() if cell["error"]]
    return text + ("\n\nerrors:\n" + "\n".join(errors) if errors else "")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py embed", description="Texts embedded per second on the CPU.")
    parser.add_argument("--rows", type=int, default=2000, help="texts; the standard library has about 3000")
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    parser.add_argument("--systems", default=",".join(TITLES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args(argv)
    if not (options.model / "model.onnx").exists():
        print(f"no model.onnx in {options.model}: `make demo` fetches the model and writes the graph", file=sys.stderr)
        return 2
    machine = report.machine()
    measured = measure(tuple(options.systems.split(",")), options)
    print(render(measured))
    chosen = {**vars(options), "model": options.model.name}
    path = report.write("embed", {"machine": machine, "options": chosen, "systems": measured})
    print(f"\nwritten to {os.path.relpath(path)}")
    return 1 if any(cell["error"] for cell in measured.values()) else 0
