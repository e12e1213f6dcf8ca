"""A program that calls in all ways at once for a while, and then one call at a time. Prints JSON: what went wrong, and how long the
single calls took.

    python soak_program.py SECONDS_OF_LOAD SINGLE_CALLS ROUNDS

Before each round of single calls it says "ready" and waits for a line of input.
"""

import asyncio
import json
import sys
import threading
import time

import aktis
import numpy as np

DEADLINE_S = 60
#: A round of single calls ends after this many seconds, however few they were.
ROUND_S = 12


@aktis.remote
def square(number):
    return number * number


@aktis.remote
def nested(count):
    return sum(aktis.get([square.remote(number) for number in range(count)]))


@aktis.remote
def twice(array):
    return array * 2


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.value = 0

    def add(self):
        self.value += 1
        return self.value


@aktis.remote(num_cpus=0)
class Echo:
    async def echo(self, value):
        return value


class Load:
    """Threads that call until the time is over."""

    def __init__(self, seconds):
        self._end = time.monotonic() + seconds
        self.failures = []
        self.rounds = {}

    def run(self):
        works = [self._single, self._bursts, self._nested, self._arrays, self._futures, self._coroutines]
        threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0, self._end - time.monotonic()) + DEADLINE_S)
        self.failures += [f"{thread.name} hangs" for thread in threads if thread.is_alive()]

    def _repeat(self, make):
        name = make.__name__
        try:
            work = make()
            while time.monotonic() < self._end:
                work(self.rounds.get(name, 0))
                self.rounds[name] = self.rounds.get(name, 0) + 1
        except BaseException as error:  # noqa: BLE001 - told to whoever runs the program
            self.failures.append(f"{name}: {error!r}")

    def _check(self, got, wanted):
        if got != wanted:
            self.failures.append(f"got {str(got)[:200]}, not {str(wanted)[:200]}")

    def _single(self):
        counter = Counter.remote()
        return lambda number: self._check(get(counter.add.remote()), number + 1)

    def _bursts(self):
        counter = Counter.remote()

        def work(number):
            counts = [counter.add.remote() for _ in range(100)]
            squares = [square.remote(number + more) for more in range(50)]
            self._check(get(counts), list(range(100 * number + 1, 100 * number + 101)))
            self._check(get(squares), [(number + more) ** 2 for more in range(50)])

        return work

    def _nested(self):
        return lambda number: self._check(get(nested.remote(number % 20)), sum(n * n for n in range(number % 20)))

    def _arrays(self):
        return lambda number: self._check(float(get(twice.remote(np.full(10_000, number)))[-1]), 2.0 * number)

    def _futures(self):
        def work(number):
            futures = [square.remote(number + more).future() for more in range(5)]
            self._check([future.result(DEADLINE_S) for future in futures], [(number + more) ** 2 for more in range(5)])

        return work

    def _coroutines(self):
        echo = Echo.remote()

        async def call(number):
            return await asyncio.gather(*(echo.echo.remote(number + more) for more in range(20)), square.remote(number))

        loop = asyncio.new_event_loop()

        def work(number):
            wanted = [*range(number, number + 20), number**2]
            self._check(loop.run_until_complete(asyncio.wait_for(call(number), DEADLINE_S)), wanted)

        return work


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


def single_calls(count):
    """How many seconds each call took, one at a time and of several kinds in turn."""
    counter, echo, array = Counter.remote(), Echo.remote(), np.ones(10_000)
    calls = [counter.add.remote, lambda: square.remote(3), lambda: echo.echo.remote(1), lambda: twice.remote(array)]
    for call in calls:
        get(call())  # starts what has to be started
    taken, end = [], time.monotonic() + ROUND_S
    while len(taken) < count and time.monotonic() < end:
        begun = time.perf_counter()
        get(calls[len(taken) % len(calls)]())
        taken.append(time.perf_counter() - begun)
    return taken


def main():
    seconds, count, rounds = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    aktis.init(num_cpus=2, log_to_driver=False)
    load = Load(seconds)
    load.run()
    taken = []
    for _ in range(rounds):
        print("ready", flush=True)
        if not sys.stdin.readline():
            break
        taken.append(single_calls(count))
        print(json.dumps(taken[-1]), flush=True)
    print(json.dumps({"failures": load.failures[:10], "rounds": load.rounds}), flush=True)


if __name__ == "__main__":
    main()
