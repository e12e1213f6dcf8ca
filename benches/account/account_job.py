"""Calls, objects and starts with the stages they pass recorded on both sides. Prints one JSON object.

    python account_job.py [--calls 3000] [--starts 9]

The marks of caller and callee carry the time of one clock (see `aktis_common::marks`), and so do those that are taken here,
before a call begins and after it has ended.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import actor_starts
import aktis
import floors
import marks
import numpy
from aktis import _aktis as native

BATCH = 1000
START_JOB = pathlib.Path(__file__).resolve().parent / "start_job.py"
#: The node keeps an object that was read at hand for 200 ms.
FORGOTTEN_S = 0.25

#: What a call passes, one after the other; what the caller does while the callee works is beside it.
CALL = (
    "caller calling", "caller called", "caller args_encoded", "caller queued", "caller sending", "caller sent",
    "callee readable", "callee received", "callee taken", "callee args_decoded", "callee returned", "callee queued",
    "callee sending", "callee sent", "caller readable", "caller received", "caller woken", "caller value_decoded",
    "caller releasing", "caller released", "caller done",
)  # fmt: skip
BESIDE = ("caller sent", "caller submitted", "caller asked")
PUT_SMALL = (
    "caller calling", "caller called", "caller args_encoded", "caller submitted", "caller releasing", "caller released",
    "caller done",
)  # fmt: skip
PUT_LARGE = (
    "caller calling", "caller called", "caller args_encoded", "caller store_created", "caller store_written",
    "caller submitted", "caller releasing", "caller released", "caller done",
)  # fmt: skip
GET = ("caller calling", "caller asked", "caller woken", "caller value_decoded", "caller done")
GET_FIRST = (
    "caller calling", "caller asked", "caller store_pinned", "caller woken", "caller value_decoded", "caller done",
)  # fmt: skip


class Recorded:
    """Can record itself."""

    def record(self, is_on):
        native.record_stages(is_on)

    def take(self):
        return native.take_stages()

    def cpu_seconds(self):
        return time.process_time()


@aktis.remote(num_cpus=0)
class Callee(Recorded):
    """An actor that does nothing."""

    def nothing(self):
        return None


@aktis.remote(num_cpus=0)
class AsyncCallee(Recorded):
    """The same on an event loop."""

    async def nothing(self):
        return None


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


class Recorder:
    """Records both sides of calls. `callee` offers `record`, `take` and `cpu_seconds`; without one there is no other side."""

    def __init__(self, callee=None):
        self.callee = callee

    def _ask(self, name, *args):
        return aktis.get(getattr(self.callee, name).remote(*args)) if self.callee else []

    def recorded(self, run):
        """The marks of caller and callee while `run` runs."""
        self._ask("take")
        native.take_stages()
        self._ask("record", True)
        native.record_stages(True)
        run()
        native.record_stages(False)
        self._ask("record", False)
        return native.take_stages(), self._ask("take")

    def cpu_seconds(self):
        return time.process_time(), self._ask("cpu_seconds")


def seconds_per_call(call, calls, pause):
    """The time of a call while nothing is recorded: the median of five windows."""
    if pause:
        return statistics.median(_seconds(call, 1, pause) for _ in range(calls))
    return statistics.median(_seconds(call, calls // 5) for _ in range(5))


def _seconds(call, calls, pause=0.0):
    time.sleep(pause)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def account(recorder, call, calls, path, *, beside=(), pause=0.0):
    """Microseconds of each step along a path, of those beside it, and of the whole call while nothing is recorded."""
    python = []

    def run():
        for _ in range(calls):
            if pause:
                time.sleep(pause)
            python.append((marks.BEGIN, 0, time.perf_counter_ns()))
            call()
            python.append((marks.END, 0, time.perf_counter_ns()))

    for _ in range(calls // 5):
        call()
    us = seconds_per_call(call, calls, pause) * 1e6
    mine, theirs = recorder.recorded(run)
    passed = marks.calls_of(marks.labelled(mine + python, theirs))
    found = {"us": us, **marks.along(path, passed)}
    if beside:
        found["beside"] = marks.along(beside, passed)["steps"]
    return found


def in_flight(recorder, call, calls):
    """What a call costs when a thousand are under way: CPU of both sides, and what their threads do between marks."""

    def batches():
        for _ in range(calls // BATCH):
            aktis.get([call() for _ in range(BATCH)])

    batches()
    before, start = recorder.cpu_seconds(), time.perf_counter()
    batches()
    seconds, after = time.perf_counter() - start, recorder.cpu_seconds()
    mine, theirs = recorder.recorded(batches)
    count = calls // BATCH * BATCH
    return {
        "us": seconds / count * 1e6,
        "caller_cpu_us": (after[0] - before[0]) / count * 1e6,
        "callee_cpu_us": (after[1] - before[1]) / count * 1e6,
        "shares": marks.shares("caller", mine, count) + marks.shares("callee", theirs, count),
    }


def starts(count):
    """Cold processes: the milliseconds after which each event came, medians; the first one warms the page cache."""
    runs = []
    for _ in range(count + 1):
        started = time.monotonic_ns()
        done = subprocess.run([sys.executable, str(START_JOB)], check=True, capture_output=True, text=True)
        events = json.loads(done.stdout.splitlines()[-1]) | {"gone": time.monotonic_ns()}
        runs.append({event: (at - started) / 1e6 for event, at in events.items()})
    return {event: statistics.median(run[event] for run in runs[1:]) for event in runs[0]}


class Tasks:
    """The tasks that record their worker, in the shape of an actor."""

    record, take, cpu_seconds = record, take, cpu_seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--starts", type=int, default=9)
    options = parser.parse_args()
    calls = options.calls
    result = {"floors": floors.measure(), "start": starts(options.starts)}
    aktis.init(num_cpus=1, log_to_driver=False)
    callee, async_callee = Callee.remote(), AsyncCallee.remote()
    actor, async_actor, task, alone = Recorder(callee), Recorder(async_callee), Recorder(Tasks), Recorder()
    array = numpy.frombuffer(numpy.random.default_rng(0).bytes(200_000_000), dtype=numpy.uint8)
    large = max(5, calls // 250)
    small_ref = aktis.put(1)
    call_actor, call_task = (lambda: aktis.get(callee.nothing.remote())), (lambda: aktis.get(nothing.remote()))
    result["actor call"] = account(actor, call_actor, calls, CALL, beside=BESIDE)
    call_async = lambda: aktis.get(async_callee.nothing.remote())
    result["async actor call"] = account(async_actor, call_async, calls, CALL, beside=BESIDE)
    result["task"] = account(task, call_task, calls, CALL, beside=BESIDE)
    result["put, small"] = account(alone, lambda: aktis.put(1), calls, PUT_SMALL)
    result["get, small"] = account(alone, lambda: aktis.get(small_ref), calls, GET)
    result["put, 200 MB"] = account(alone, lambda: aktis.put(array), large, PUT_LARGE)
    large_ref = aktis.put(array)
    read = lambda: aktis.get(large_ref)
    result["get, 200 MB, first"] = account(alone, read, large, GET_FIRST, pause=FORGOTTEN_S)
    result["get, 200 MB, again"] = account(alone, read, calls, GET)
    result["actor call, in flight"] = in_flight(actor, callee.nothing.remote, 20 * BATCH)
    result["async actor call, in flight"] = in_flight(async_actor, async_callee.nothing.remote, 20 * BATCH)
    result["task, in flight"] = in_flight(task, nothing.remote, 20 * BATCH)
    for idle in (callee, async_callee):
        aktis.kill(idle)
    result["actors started"] = actor_starts.measure(options.starts)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
