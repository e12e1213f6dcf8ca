"""How much memory a slow callee takes while its caller never waits. Prints one JSON object.

python pressure_job.py --kind actor --calls 2000 --payload-bytes 80000
"""

import argparse
import asyncio
import json
import os
import time

import aktis

CALL_S = 0.01
#: How long the caller does nothing after its calls.
WATCHED_S = 3.0


@aktis.remote(num_cpus=0)
class Plain:
    def pid(self):
        return os.getpid()

    def call(self, _payload):
        time.sleep(CALL_S)
        return os.getpid()


@aktis.remote(num_cpus=0, max_concurrency=10)
class Async:
    async def pid(self):
        return os.getpid()

    async def call(self, _payload):
        await asyncio.sleep(CALL_S)
        return os.getpid()


@aktis.remote(num_cpus=0, concurrency_groups={"slow": 2})
class Grouped:
    def pid(self):
        return os.getpid()

    @aktis.method(concurrency_group="slow")
    def call(self, _payload):
        time.sleep(CALL_S)
        return os.getpid()


@aktis.remote
def pid():
    time.sleep(0.2)
    return os.getpid()


@aktis.remote(max_retries=0)
def call(_payload):
    time.sleep(CALL_S)
    return os.getpid()


def forget_peak(process):
    with open(f"/proc/{process}/clear_refs", "w") as file:
        file.write("5")


def peak_bytes(process):
    """The most memory that was resident since :func:`forget_peak`."""
    with open(f"/proc/{process}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def growth(callees, submit, options):
    """By how much the callees (the one that grows most) and the caller grow."""
    processes = [*callees, os.getpid()]
    for process in processes:
        forget_peak(process)
    before = [peak_bytes(process) for process in processes]
    # Bytes of its own for each call, in pages that are there.
    refs = [submit(bytes([number % 255 + 1]) * options.payload_bytes) for number in range(options.calls)]
    time.sleep(WATCHED_S)
    grown = [peak_bytes(process) - old for process, old in zip(processes, before, strict=True)]
    done, waiting = aktis.wait(refs, num_returns=len(refs), timeout=0)
    assert set(aktis.get(done)) <= set(callees), "calls ran in processes that were not looked at"
    return {"callee_bytes": max(grown[:-1]), "caller_bytes": grown[-1], "done": len(done), "waiting": len(waiting)}


def of_actor(actor_class, options):
    actor = actor_class.remote()
    return growth([aktis.get(actor.pid.remote())], actor.call.remote, options)


def of_tasks(options):
    return growth(sorted(set(aktis.get([pid.remote() for _ in range(4)]))), call.remote, options)


KINDS = {
    "actor": lambda options: of_actor(Plain, options),
    "async actor": lambda options: of_actor(Async, options),
    "actor with a concurrency group": lambda options: of_actor(Grouped, options),
    "tasks": of_tasks,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--payload-bytes", type=int, default=80_000)
    options = parser.parse_args()
    aktis.init(num_cpus=2, log_to_driver=False)
    result = KINDS[options.kind](options)
    aktis.shutdown()
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
