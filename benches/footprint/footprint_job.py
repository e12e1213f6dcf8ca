"""What a session costs while it does nothing. One script for Aktis and Ray; prints one JSON object in its last line.

python footprint_job.py --system aktis|ray [--idle-seconds 10] [--refs 100000,120000] [--tasks 1000000]
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time

import processes

IMPORT_SCRIPT = """
import time
start = time.perf_counter()
import {system} as ray
{used}
print(time.perf_counter() - start)
"""
#: A package may load what it needs when a name is first used.
FIRST_USE = "ray.init, ray.remote, ray.get"


def import_seconds(system, used="", times=7):
    """Seconds of the import in a new process; the first, which fills the page cache, is not counted."""
    values = []
    for _ in range(times + 1):
        done = subprocess.run([sys.executable, "-c", IMPORT_SCRIPT.format(system=system, used=used)], check=True,
                              capture_output=True, text=True)  # fmt: skip
        values.append(float(done.stdout.split()[-1]))
    return statistics.median(values[1:])


def start_workers(ray, cpus):
    """Makes every worker of the session run something, and one actor. Returns their pids and the actor."""

    @ray.remote
    def pid():
        time.sleep(0.3)
        return os.getpid()

    @ray.remote(num_cpus=0)
    class Actor:
        def pid(self):
            return os.getpid()

    actor = Actor.remote()
    pids = set(ray.get([pid.remote() for _ in range(2 * cpus)] + [actor.pid.remote()]))
    return sorted(pids), actor


def idle(driver, workers, seconds):
    """Memory and CPU of all processes of the session, the driver's included."""
    processes.until_quiet(driver)
    pids = processes.descendants(driver)
    used, start = processes.cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    # Of those that lived through the whole of it.
    cores = sum(now - used[pid] for pid, now in processes.cpu_seconds(pids).items()) / (time.monotonic() - start)
    alive = [pid for pid in workers if pid in pids]
    return {
        "processes": len(pids),
        "worker_uss_bytes": statistics.median(processes.memory(pid)["uss"] for pid in alive) if alive else None,
        "session_pss_bytes": processes.total(pids, "pss"),
        "session_shm_bytes": processes.total(pids, "shm"),
        "idle_cores": cores,
    }


def bytes_per_ref(ray, driver, counts):
    """How much the driver grows per reference it owns, with the smallest value there is behind it: bytes by number.

    A table grows by doubling: just after that it is half empty, so each number gives another answer.
    """
    warm = [ray.put(None) for _ in range(1000)]
    before = processes.memory(driver)["uss"]
    refs, found = [], {}
    for count in sorted(counts):
        refs.extend(ray.put(None) for _ in range(count - len(refs)))
        found[count] = (processes.memory(driver)["uss"] - before) / count
    del refs, warm
    return found


def memory_of_tasks(ray, driver, count):
    """What a queued task takes, and how much the session has grown after so many were queued, run and forgotten.

    Once, and once more: what an allocator keeps for the next time is not lost, and does not grow.
    """

    @ray.remote
    def nothing():
        return None

    def session_bytes():
        processes.until_quiet(driver)
        return processes.total(processes.descendants(driver), "uss")

    ray.get([nothing.remote() for _ in range(1000)])
    sizes = [session_bytes()]
    for _ in range(2):
        before = processes.memory(driver)["uss"]
        refs = [nothing.remote() for _ in range(count)]
        queued = processes.memory(driver)["uss"] - before
        ray.get(refs)
        del refs
        sizes.append(session_bytes())
    return {
        "bytes_per_queued_task": queued / count,
        "bytes_left_by_tasks": sizes[1] - sizes[0],
        "bytes_left_by_tasks_again": sizes[2] - sizes[1],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", required=True)
    parser.add_argument("--idle-seconds", type=float, default=10)
    parser.add_argument("--refs", default="100000", help="numbers of references, comma-separated")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()

    driver = os.getpid()
    bare = processes.memory(driver)["uss"]
    result = {
        "import_s": import_seconds(options.system),
        "import_and_use_s": import_seconds(options.system, FIRST_USE),
    }
    ray = importlib.import_module(options.system)
    ray.init(num_cpus=options.cpus)
    workers, actor = start_workers(ray, options.cpus)
    result |= idle(driver, workers, options.idle_seconds)
    result["bare_python_uss_bytes"] = bare
    per_ref = bytes_per_ref(ray, driver, [int(count) for count in options.refs.split(",")])
    result |= {"bytes_per_ref_by_number": per_ref, "bytes_per_ref": max(per_ref.values())}
    result |= memory_of_tasks(ray, driver, options.tasks)
    del actor
    ray.shutdown()
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
