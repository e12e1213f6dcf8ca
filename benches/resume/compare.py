"""Kills jobs at seeded moments, runs them again until they end, and says which share of what was left was done twice."""

import argparse
import contextlib
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet
import ray_env
import report

JOB = pathlib.Path(__file__).resolve().parent / "resume_job.py"
#: Rows that the models of a job get, as multiples of those that it reads; of `few`, the first one gets more than it must.
GETS = {"one": 1, "stages": 1, "judged": 1, "dead": 1, "legs": 2, "join": 2, "few": 1}
GOAL = 0.05
#: As the models of `resume_job.py` have them.
WORKERS, BATCH, CALL_S = 2, 10, 0.020
#: Rows of a kill that nobody can know to be done: of each worker the call under way, and those of an input's first tenth of a second, which
#: are not noted yet.
UNDER_WAY = WORKERS * BATCH * (1 + math.ceil(0.1 / CALL_S))
LIMIT_S = 300


def noted_rows(path):
    """Rows that models were called with, in the order in which their calls ended."""
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().split("\n")[:-1]:
            model, *ids = line.split()
            yield from ((model, number) for number in ids)


def run(kind, folder, number, rows, enough):
    """Runs the job once; kills it when its models have had so many rows. Returns whether it was, and what they had."""
    noted = folder / f"noted-{number}"
    noted.touch()
    command = [str(part) for part in (ray_env.python_of("aktis"), JOB, kind, folder / "out", rows)]
    environment = {**ray_env.environment(), "NOTED": str(noted)}
    with open(folder / f"said-{number}", "w") as said:
        job = subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)
    deadline = time.monotonic() + LIMIT_S
    while job.poll() is None and time.monotonic() < deadline:
        # Each row is a word behind the first one of its line.
        if enough is not None and noted.read_text().count(" ") >= enough:
            job.kill()
        time.sleep(0.02)
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
        raise RuntimeError(f"{kind}: ran longer than {LIMIT_S} s: {(folder / f'said-{number}').read_text()[-2000:]}")
    if job.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{kind}: {(folder / f'said-{number}').read_text()[-2000:]}")
    # Its workers hear of it, and end.
    time.sleep(1)
    return job.returncode != 0, list(noted_rows(noted))


def measure(kind, rows, kills, chance):
    """Of each kill: rows that were done twice because of it, and those that were left."""
    found = []
    all_rows = GETS[kind] * rows
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent)
        seen = set()
        for number in range(kills + 1):
            left = all_rows - len(seen)
            enough = chance.randrange(max(1, left * 3 // 4)) + 1 if number < kills else None
            was_killed, had = run(kind, folder, number, rows, enough)
            again = sum(row in seen for row in had)
            if number:
                found.append((again, left))
            seen |= set(had)
            if not was_killed:
                break
        hidden = [path.name for path in (folder / "out").iterdir() if path.name[0] in "._"]
        assert not hidden, hidden
        check(kind, folder / "out", rows)
    return found


def check(kind, out, rows):
    ids = pyarrow.parquet.read_table(out)["id"].to_pylist()
    wanted = rows // 2 if kind == "few" else rows
    assert len(ids) == len(set(ids)) == wanted, f"{len(ids)} rows, {len(set(ids))} different ones, not {wanted}"


def main(argv):
    parser = argparse.ArgumentParser(prog="run.py resume", description=__doc__)
    parser.add_argument("--jobs", default=",".join(GETS))
    parser.add_argument("--rows", type=int, default=6000, help="that a job reads; models get ten of them at once")
    parser.add_argument("--kills", type=int, default=4, help="of each job")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    cells, rows, is_good = {}, [], True
    for kind in options.jobs.split(","):
        chance = random.Random(f"{options.seed} {kind}")
        found = measure(kind, options.rows, options.kills, chance)
        shares = [again / left for again, left in found]
        beyond = [max(0, again - UNDER_WAY) / left for again, left in found]
        print(f"  {kind}: {', '.join(f'{again} of {left}' for again, left in found)}", file=sys.stderr, flush=True)
        cells[kind] = {"again": [again for again, _ in found], "left": [left for _, left in found]}
        most = max((again for again, _ in found), default=0)
        reached = max(beyond, default=0.0) < GOAL
        is_good &= reached
        worst = (report.median(shares) or 0.0, max(shares, default=0.0), max(beyond, default=0.0))
        shown = [f"{100 * value:.1f} %" for value in worst]
        shown.insert(2, f"{most} of {UNDER_WAY}")
        rows.append([kind, len(found), *shown, report.judge(reached)])
    titles = (
        "done twice, of the rows that were left",
        "kills",
        "median",
        "most",
        "rows, of those under way",
        "beyond",
        "",
    )
    print(report.table(titles, rows))
    path = report.write("resume", {"machine": report.machine(), "options": vars(options), "jobs": cells})
    print(f"\nwritten to {os.path.relpath(path)}")
    return int(not is_good)
