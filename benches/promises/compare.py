"""Runs the promises of the lane, and judges each against its limit."""

import argparse
import os
import pathlib
import sys

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 600
MB = 1e6

INTERRUPT_MS = 100
DEATH_MS = 50
CALLEE_MB = 64
#: The caller keeps what is not sent, and what it takes to know of it.
CALLER_ABOVE_MB = 64

QUESTIONS = ("interrupt", "death", "pressure")
#: A process of its own for each: memory that a caller has had once is not growth the next time.
SLOW = ("actor", "async actor", "actor with a concurrency group", "tasks")


def time_lines(title, limit_ms, found):
    """One line per situation, judged by the worst of its times."""
    return [
        {
            "promise": f"{title}: {name}", "median": report.median(times), "worst": max(times), "limit": limit_ms,
            "unit": "ms",
        }
        for name, times in found.items()
    ]  # fmt: skip


def memory_lines(found, given_mb):
    lines = []
    for name, grown in found.items():
        limits = {"callee": CALLEE_MB, "caller": given_mb + CALLER_ABOVE_MB}
        for side, limit in limits.items():
            promise = f"slow {name} given {given_mb:.0f} MB: the {side} grows by"
            lines.append(
                {"promise": promise, "median": None, "worst": grown[f"{side}_bytes"] / MB, "limit": limit, "unit": "MB"}
            )
    return lines


def lines_of(question, found, options):
    if question == "interrupt":
        return time_lines("SIGINT", INTERRUPT_MS, found)
    if question == "death":
        return time_lines("kill -9", DEATH_MS, found)
    return memory_lines(found, options.calls * options.payload_bytes / MB)


def is_kept(line):
    return line["worst"] <= line["limit"]


def render(lines):
    def shown(value, line):
        return "" if value is None else f"{value:.3g} {line['unit']}"

    rows = [
        (
            line["promise"],
            *(shown(line[key], line) for key in ("median", "worst", "limit")),
            report.judge(is_kept(line)),
        )
        for line in lines
    ]
    return report.table(("promise", "median", "worst", "limit", ""), rows)


def measure(question, options):
    def run(*arguments):
        return jobs.run([ray_env.python_of("aktis"), HERE / f"{question}_job.py", *arguments], LIMIT_S)[0]

    if question == "pressure":
        size = ("--calls", options.calls, "--payload-bytes", options.payload_bytes)
        return {kind: run("--kind", kind, *size) for kind in SLOW}
    return run("--times", options.times)


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py promises", description="What the lane keeps under stress.")
    parser.add_argument("--of", default=",".join(QUESTIONS), help="which of them, comma-separated")
    parser.add_argument("--times", type=int, default=20, help="interrupts and deaths per situation")
    parser.add_argument("--calls", type=int, default=2000, help="calls that nobody waits for")
    parser.add_argument("--payload-bytes", type=int, default=80_000, help="of each of them")
    return parser.parse_args(argv)


def main(argv):
    options = parse(argv)
    if not sys.platform.startswith("linux"):
        print("this measurement reads /proc, which only Linux has", file=sys.stderr)
        return 2
    machine, found, errors, lines = report.machine(), {}, {}, []
    for question in options.of.split(","):
        print(f"  {question}", file=sys.stderr, flush=True)
        try:
            found[question] = measure(question, options)
            lines += lines_of(question, found[question], options)
        except jobs.JobFailed as failure:
            errors[question] = str(failure)
            print(f"  {question}: {failure}", file=sys.stderr)
    print(render(lines))
    outcome = {"machine": machine, "options": vars(options), "lines": lines, "found": found, "errors": errors}
    print(f"\nwritten to {os.path.relpath(report.write('promises', outcome))}")
    return 1 if errors or not all(map(is_kept, lines)) else 0
