"""Calls of each kind with the stages they pass recorded on both sides. Prints one JSON object.

    python account_job.py [--calls 3000]

The marks of caller and callee carry the time of one clock (see `aktis_worker::stages`). Marks of both sides, put in order and
cut at every "called", are the account of one call.
"""

import argparse
import collections
import importlib.util
import itertools
import json
import pathlib
import statistics
import time

import aktis
import numpy
from aktis import _aktis as native

BATCH = 1000


@aktis.remote(num_cpus=0)
class Callee:
    """An actor that does nothing, and can record itself doing it."""

    def nothing(self):
        return None

    def record(self, is_on):
        native.record_stages(is_on)

    def take(self):
        return native.take_stages()

    def cpu_seconds(self):
        return time.process_time()


@aktis.remote
def nothing():
    return None


@aktis.remote
def record(is_on):
    native.record_stages(is_on)


@aktis.remote
def take():
    return native.take_stages()


@aktis.remote
def cpu_seconds():
    return time.process_time()


def seconds_per_call(call, calls):
    """The time of a call that is not recorded: the median of five windows."""
    windows = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls // 5):
            call()
        windows.append((time.perf_counter() - start) / (calls // 5))
    return statistics.median(windows)


def account(call, calls, record_callee, take_callee):
    """Median microseconds between each two marks of a call, in order, over the calls that pass the usual marks."""
    record_callee(True)
    native.record_stages(True)
    for _ in range(calls):
        call()
    native.record_stages(False)
    record_callee(False)
    marks = [(at, "caller", name) for name, at in native.take_stages()]
    marks += [(at, "callee", name) for name, at in take_callee()]
    accounts = cut(sorted(marks))
    usual, count = collections.Counter(tuple(names) for names, _ in accounts).most_common(1)[0]
    gaps = [[b - a for a, b in itertools.pairwise(times)] for names, times in accounts if tuple(names) == usual]
    microseconds = [statistics.median(gap) / 1e3 for gap in zip(*gaps, strict=True)]
    steps = [{"from": a, "to": b, "us": us} for (a, b), us in zip(itertools.pairwise(usual), microseconds, strict=True)]
    return {"steps": steps, "usual": count / len(accounts)}


def cut(marks):
    """One list of names and times per call; each ends with the first mark of the next call."""
    accounts, current = [], None
    for at, side, name in marks:
        label = f"{side} {name}"
        if label == "caller called":
            if current is not None:
                current[0].append("caller called again")
                current[1].append(at)
                accounts.append(current)
            current = ([], [])
        if current is not None:
            current[0].append(label)
            current[1].append(at)
    return accounts


def in_flight(call, calls, cpu_of_callee, record_callee, take_callee):
    """What a call costs when a thousand are under way: CPU of both sides, and system calls counted by their marks."""

    def batches():
        for _ in range(calls // BATCH):
            aktis.get([call() for _ in range(BATCH)])

    batches()
    count = calls // BATCH * BATCH
    caller, callee, start = time.process_time(), cpu_of_callee(), time.perf_counter()
    batches()
    seconds = time.perf_counter() - start
    caller, callee = time.process_time() - caller, cpu_of_callee() - callee
    record_callee(True)
    native.record_stages(True)
    batches()
    native.record_stages(False)
    record_callee(False)
    mine, theirs = native.take_stages(), take_callee()
    kernel = [
        sum(name == wanted for name, _ in side) / count for side in (mine, theirs) for wanted in ("sent", "received")
    ]
    return {
        "us": seconds / count * 1e6,
        "caller_cpu_us": caller / count * 1e6,
        "callee_cpu_us": callee / count * 1e6,
        "caller_sends": kernel[0],
        "caller_receives": kernel[1],
        "callee_sends": kernel[2],
        "callee_receives": kernel[3],
    }


def core_floor(name):
    """A floor of the core benchmark: what the machine does without any runtime."""
    path = pathlib.Path(__file__).resolve().parent.parent / "core" / "core_bench.py"
    spec = importlib.util.spec_from_file_location("core_bench", path)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    import sys

    sys.modules["core_bench"] = module
    spec.loader.exec_module(module)
    bench = module.Bench("none", 1, 1.0)
    with bench.cleanup:
        return module.ROWS[name].set_up(bench)()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=5000)
    calls = parser.parse_args().calls
    result = {
        "floor_round_trip_us": 1e6 / core_floor("floor_round_trip"),
        "floor_memcpy_gb_s": core_floor("floor_memcpy"),
    }
    aktis.init(num_cpus=1, log_to_driver=False)
    callee = Callee.remote()
    aktis.get(callee.nothing.remote())
    actor_side = (lambda on: aktis.get(callee.record.remote(on)), lambda: aktis.get(callee.take.remote()))
    task_side = (lambda on: aktis.get(record.remote(on)), lambda: aktis.get(take.remote()))
    nobody = (lambda _on: None, list)
    array = numpy.frombuffer(numpy.random.default_rng(0).bytes(200_000_000), dtype=numpy.uint8)
    small, large = aktis.put(1), aktis.put(array)
    kinds = {
        "actor call": (lambda: aktis.get(callee.nothing.remote()), calls, actor_side),
        "task": (lambda: aktis.get(nothing.remote()), calls, task_side),
        "put, small": (lambda: aktis.put(1), calls, nobody),
        "put, 200 MB": (lambda: aktis.put(array), 20, nobody),
    }
    for name, (call, count, side) in kinds.items():
        for _ in range(count // 5):
            call()
        seconds = seconds_per_call(call, count)
        result[name] = {"us": seconds * 1e6, **account(call, count, *side)}
    for name, ref, count in (("get, small", small, calls), ("get, 200 MB again", large, calls)):
        aktis.get(ref)
        result[name] = {"us": seconds_per_call(lambda ref=ref: aktis.get(ref), count) * 1e6}
    result["actor call, 1000 in flight"] = in_flight(
        callee.nothing.remote, 20 * BATCH, lambda: aktis.get(callee.cpu_seconds.remote()), *actor_side
    )
    result["task, 1000 in flight"] = in_flight(
        nothing.remote, 20 * BATCH, lambda: aktis.get(cpu_seconds.remote()), *task_side
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
