"""Runs the account of calls, objects and starts, and prints which microseconds go where."""

import argparse
import os
import pathlib
import re
import sys

import jobs
import ray_env
import report

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tables

JOB = HERE / "account_job.py"
PAGE = HERE.parents[1] / "docs" / "performance.md"
LIMIT_S = 600


def render(result, machine):
    floors = result["floors"]
    round_trips = (
        ("round trip of two bare Python processes over a socket pair", floors["round_trip_us"]),
        ("the same, both polling without sleep (`sched_yield`)", floors["polling_round_trip_us"]),
    )
    memcpy = ("memcpy of 200 MB into such memory", floors["memcpy_ms"] * 1e3)
    shown = (
        ("actor call", "actor call, one at a time", round_trips),
        ("async actor call", "call of an async actor, one at a time", round_trips),
        ("task", "task, one at a time", round_trips),
        ("put, small", "`put`, small", (("object made, a key of a dict, dropped", floors["dict_put_us"]),)),
        ("get, small", "`get`, small", (("look into a dict", floors["dict_get_us"]),)),
        ("put, 200 MB", "`put`, 200 MB of random bytes, again and again", (memcpy,)),
        ("get, 200 MB, first", "`get`, 200 MB array, first read", (memcpy, round_trips[0])),
        ("get, 200 MB, again", "`get`, 200 MB array, read again", (("look into a dict", floors["dict_get_us"]),)),
    )
    calls = [
        tables.titled(title, result[name], beside, tables.STEPS | (tables.ON_LOOP if "async" in name else {}))
        for name, title, beside in shown
    ]
    kinds = {kind: result[f"{kind}, in flight"] for kind in ("actor call", "async actor call", "task")}
    parts = [
        f"{machine['cpus']} CPUs ({machine['cpu']}), Python {machine['python']}, commit {machine['commit']}.",
        *calls[:3],
        f"**1000 calls in flight**, per call\n\n{tables.flight_table(kinds, floors['in_flight_us'])}",
        *calls[3:],
        "**Cold process**: import, `init`, one task, `shutdown`, out (medians, by the time at which it was done)\n\n"
        + tables.start_table(result["start"], floors),
        f"**{result['actors started']['actors']} actors** started and called at once, after the first `remote()` (medians; "
        "workers that were there before are forked at a negative time)\n\n"
        + tables.actors_table(result["actors started"]),
    ]
    return "\n\n".join(parts)


def write_page(text):
    page = PAGE.read_text(encoding="utf-8")
    block = re.compile(r"(<!-- account -->\n).*?(<!-- end of account -->)", re.DOTALL)
    PAGE.write_text(block.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py account", description="Which microseconds of a call go where.")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--starts", type=int, default=9, help="cold processes")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args(argv)
    machine = report.machine()
    command = [ray_env.python_of("aktis"), JOB, "--calls", options.calls, "--starts", options.starts]
    try:
        result, _ = jobs.run(command, LIMIT_S)
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
