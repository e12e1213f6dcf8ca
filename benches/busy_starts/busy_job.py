"""Twenty actors started and called in one session, several times; beside as many bare forks of a process like the zygote.

    python busy_job.py --system aktis|ray --rounds N --cpus N

Prints one JSON object: the seconds of each round, and with Aktis those of the forks before each.
"""

import argparse
import contextlib
import importlib
import json
import os
import pathlib
import sys
import time

ACTORS = 20


def bare_zygote():
    """What forks on request. Of a process that has imported what Aktis's zygote has, so there is none without Aktis."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "account"))
    import actor_starts

    assert actor_starts.ACTORS == ACTORS
    return actor_starts.BareZygote()


def rounds(ray, count, zygote):
    @ray.remote(num_cpus=0)
    class Actor:
        def pid(self):
            return os.getpid()

    ray.get(Actor.remote().pid.remote())
    starts, forks = [], []
    for _ in range(count):
        if zygote is not None:
            forks.append(zygote.forks_ms() / 1e3)
        begun = time.perf_counter()
        actors = [Actor.remote() for _ in range(ACTORS)]
        pids = ray.get([actor.pid.remote() for actor in actors])
        starts.append(time.perf_counter() - begun)
        for actor in actors:
            ray.kill(actor)
        # The next round is not to share its CPUs with the end of this one.
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            time.sleep(0.01)
    return {"starts_s": starts, "forks_s": forks}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--system", choices=("aktis", "ray"), required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--cpus", type=int, required=True)
    options = parser.parse_args()
    ray = importlib.import_module(options.system)
    ray.init(num_cpus=options.cpus, log_to_driver=False)
    with bare_zygote() if options.system == "aktis" else contextlib.nullcontext() as zygote:
        found = rounds(ray, options.rounds, zygote)
    ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
