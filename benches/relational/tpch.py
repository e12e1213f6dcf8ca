"""The questions of TPC-H: makes the tables, asks every system alternately, compares the answers and prints times and ratios."""

import pathlib
import subprocess
import sys
import tempfile

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
JOB = HERE / "tpch_job.py"
SYSTEMS = ("datafusion", "duckdb", "aktis")
#: Its answers are what the others' are compared with.
REFERENCE = "duckdb"
TARGET_TIMES_DATAFUSION = 1.3
LIMIT_S = 1800


def python_for(system):
    return sys.executable if system == "aktis" else ray_env.relational_python()


def ensure_tables(scale):
    """The folder of the tables, made on first use and kept in the cache."""
    folder = ray_env.cache_folder() / f"tpch-{scale:g}"
    if not folder.exists():
        print(f"making the tables in {folder}", file=sys.stderr, flush=True)
        partial = folder.with_suffix(".partial")
        generator = pathlib.Path(ray_env.relational_python()).parent / "tpchgen-cli"
        subprocess.run([generator, "parquet", "-s", f"{scale:g}", "-o", partial], check=True)
        partial.rename(folder)
    return folder


def ask(system, tables, answers, options):
    command = [python_for(system), JOB, system, tables, answers, "--scale", options.scale, "--memory", options.memory]
    if options.questions:
        command += ["--questions", options.questions]
    return jobs.run(command, LIMIT_S)


def differences(answers, wanted):
    """What differs, by question. Runs where there is pyarrow of the rivals, which reads what all have written."""
    result, _ = jobs.run([ray_env.relational_python(), HERE / "answers.py", answers, wanted], LIMIT_S)
    return result


def measure(options):
    """Of each system: seconds per question and round, seconds of the whole process, errors, answers that differ."""
    systems = options.systems.split(",") if options.systems else SYSTEMS
    tables = ensure_tables(options.scale)
    measured = {
        system: {"seconds": {}, "process_s": [], "errors": {}, "different": {}, "peak_rss_bytes": []}
        for system in systems
    }
    with tempfile.TemporaryDirectory(dir=ray_env.cache_folder()) as scratch:
        scratch = pathlib.Path(scratch)
        for number in range(options.rounds):
            for system in systems if number % 2 == 0 else reversed(systems):
                cell = measured[system]
                try:
                    result, process_s = ask(system, tables, scratch / system, options)
                except jobs.JobFailed as failure:
                    cell["errors"]["job"] = str(failure)
                    continue
                for question, seconds in result["seconds"].items():
                    cell["seconds"].setdefault(question, []).append(seconds)
                cell["errors"].update(result["errors"])
                cell["process_s"].append(process_s)
                cell["peak_rss_bytes"].append(result["peak_rss_bytes"])
                print(f"  {system:10} {sum(result['seconds'].values()):.2f} s", file=sys.stderr, flush=True)
        for system in systems:
            if system != REFERENCE and REFERENCE in systems:
                measured[system]["different"] = differences(scratch / system, scratch / REFERENCE)
    return measured


def render(measured, _options):
    questions = sorted({question for cell in measured.values() for question in cell["seconds"]})
    medians = {
        system: {question: report.median(seconds) for question, seconds in cell["seconds"].items()}
        for system, cell in measured.items()
    }
    rows = [
        (question, *(report.number(medians[system].get(question), "s") for system in measured))
        for question in questions
    ]
    # A sum is one of what all have answered.
    common = [question for question in questions if all(question in medians[system] for system in measured)]
    sums = {system: sum(medians[system][question] for question in common) for system in measured}
    rows.append((f"sum of {len(common)}", *(report.number(seconds, "s") for seconds in sums.values())))
    text = report.table(("question", *measured), rows)
    if sums.get("aktis") and sums.get("datafusion"):
        times = sums["aktis"] / sums["datafusion"]
        text += f"\n{report.judge(times <= TARGET_TIMES_DATAFUSION)}: {times:.2f} times bare DataFusion"
    for system, cell in measured.items():
        text += "".join(f"\n{system} {question}: {error}" for question, error in cell["errors"].items())
        text += "".join(f"\n{system} {question} differs: {how}" for question, how in cell["different"].items())
    return text, not any(cell["errors"] or cell["different"] for cell in measured.values())
