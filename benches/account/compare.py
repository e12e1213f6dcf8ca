"""Runs the account of a call and prints which microseconds go where."""

import argparse
import os
import pathlib
import re
import sys

import jobs
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "account_job.py"
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "performance.md"
LIMIT_S = 300

#: What happens between two marks: (from, to) -> (where, what).
STEPS = {
    ("caller called", "caller args_encoded"): ("caller", "arguments to bytes"),
    ("caller args_encoded", "caller queued"): ("caller", "object and task tables, frame into the outbox"),
    ("caller queued", "caller sent"): ("kernel", "`sendmsg`"),
    ("caller sent", "callee received"): ("kernel", "until the callee has read the frame (its `epoll_wait` and `recv`)"),
    ("callee received", "callee taken"): ("callee", "frame decoded, handed to the executor"),
    ("callee taken", "callee args_decoded"): ("callee", "interpreter lock, arguments to objects"),
    ("callee args_decoded", "callee returned"): ("user", "function looked up and run (it returns None)"),
    ("callee returned", "callee queued"): ("callee", "result to bytes, frame into the outbox"),
    ("callee queued", "callee sent"): ("kernel", "`sendmsg`"),
    ("callee sent", "caller received"): (
        "kernel",
        "until the caller has read the answer (its `epoll_wait` and `recv`)",
    ),
    ("caller received", "caller woken"): ("caller", "frame decoded, task ended, value found by the waiting thread"),
    ("caller woken", "caller value_decoded"): ("caller", "value to object"),
    ("caller value_decoded", "caller called again"): ("caller", "reference dropped; Python: return, loop, next call"),
    ("caller args_encoded", "caller called again"): (
        "caller",
        "object table; reference made and dropped; Python: return, loop",
    ),
}


def step_table(measured):
    rows, total = [], 0.0
    for step in measured["steps"]:
        where, what = STEPS.get((step["from"], step["to"]), ("", f"{step['from']} to {step['to']}"))
        rows.append((where, what, f"{step['us']:.2f}"))
        total += step["us"]
    rows.append(("", "**sum, recorded**", f"**{total:.2f}**"))
    rows.append(("", "**not recorded**", f"**{measured['us']:.2f}**"))
    return markdown(("where", "what", "µs"), rows)


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def render(result, machine):
    floor = result["floor_round_trip_us"]
    machine_line = (
        f"{machine['cpus']} CPUs ({machine['cpu']}), Python {machine['python']}, commit {machine['commit']}. Floor: two bare "
        f"Python processes that exchange pickled 10-byte messages over a socket pair take {floor:.1f} µs for a round trip."
    )
    parts = [machine_line]
    for name in ("actor call", "task", "put, small"):
        measured = result[name]
        parts.append(
            f"**{name[0].upper()}{name[1:]}, one at a time** ({measured['usual']:.0%} of the calls pass these stages)"
        )
        parts.append(step_table(measured))
    parts.append("**1000 calls in flight**, per call")
    kinds = ("actor call, 1000 in flight", "task, 1000 in flight")
    keys = {
        "us": "wall clock, µs", "caller_cpu_us": "CPU of the caller, µs", "callee_cpu_us": "CPU of the callee, µs",
        "caller_sends": "`sendmsg` of the caller", "caller_receives": "`recv` of the caller",
        "callee_sends": "`sendmsg` of the callee", "callee_receives": "`recv` of the callee",
    }  # fmt: skip
    rows = [(title, *(f"{result[kind][key]:.3g}" for kind in kinds)) for key, title in keys.items()]
    parts.append(markdown(("", "actor call", "task"), rows))
    parts.append("**Objects**")
    size, memcpy = 200e6, result["floor_memcpy_gb_s"]
    put = result["put, 200 MB"]["us"]
    rows = [
        ("`get`, small", f"{result['get, small']['us']:.2f} µs", ""),
        ("`put`, 200 MB of random bytes", f"{put / 1e3:.1f} ms", f"{size / put / 1e3:.1f} GB/s; a memcpy into such memory {memcpy:.1f} GB/s"),
        ("`get`, 200 MB array, read before", f"{result['get, 200 MB again']['us']:.2f} µs", "no copy, no question to the raylet"),
    ]  # fmt: skip
    parts.append(markdown(("", "time", ""), rows))
    return "\n\n".join(parts)


def write_page(text):
    page = PAGE.read_text(encoding="utf-8")
    block = re.compile(r"(<!-- account -->\n).*?(<!-- end of account -->)", re.DOTALL)
    PAGE.write_text(block.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py account", description="Which microseconds of a call go where.")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args(argv)
    machine = report.machine()
    try:
        result, _ = jobs.run([ray_env.python_of("aktis"), JOB, "--calls", options.calls], LIMIT_S)
    except jobs.JobFailed as failure:
        print(f"  aktis: {failure}", file=sys.stderr)
        return 1
    text = render(result, machine)
    print(text)
    if options.write:
        write_page(text)
    written = report.write("account", {"machine": machine, "result": result})
    print(f"\nwritten to {os.path.relpath(written)}")
    return 0
