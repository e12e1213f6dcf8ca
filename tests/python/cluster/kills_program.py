"""Works until it is told to stop, however often its processes are killed. Says after each round that it was right.

    python kills_program.py [ADDRESS]

Prints "round" for each round, and JSON at the end: what went wrong, if anything. Ends when its input does.
"""

import json
import sys
import threading

import aktis
import numpy as np

DEADLINE_S = 120


@aktis.remote(max_retries=-1)
def square(number):
    return number * number


@aktis.remote(max_retries=-1)
def nested(count):
    return sum(aktis.get([square.remote(number) for number in range(count)]))


@aktis.remote(max_retries=-1)
def stored(number):
    """Longer than what travels with an answer: it lies in a store, and is made again when that is gone."""
    return np.full(40_000, number)


@aktis.remote(max_retries=-1)
def total(array):
    return int(array.sum())


@aktis.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Doubler:
    def double(self, number):
        return 2 * number


@aktis.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class AsyncDoubler:
    async def double(self, number):
        return 2 * number


class Work:
    """Rounds of everything, each with numbers of its own."""

    def __init__(self):
        self._actors = [Doubler.remote(), AsyncDoubler.remote()]
        self._kept = [(number, stored.remote(number)) for number in range(4)]

    def round(self, number):
        """One of all kinds. Returns what was wrong."""
        squares = [square.remote(number + more) for more in range(20)]
        sums = [nested.remote(number % 5 + more) for more in range(2)]
        doubles = [actor.double.remote(number + more) for actor in self._actors for more in range(5)]
        totals = [total.remote(array) for _, array in self._kept]
        wanted = [(number + more) ** 2 for more in range(20)]
        wanted += [sum(n * n for n in range(number % 5 + more)) for more in range(2)]
        wanted += [2 * (number + more) for _ in self._actors for more in range(5)]
        wanted += [40_000 * value for value, _ in self._kept]
        got = aktis.get(squares + sums + doubles + totals, timeout=DEADLINE_S)
        # The oldest of the kept objects goes, and a new one comes.
        self._kept = [*self._kept[1:], (number, stored.remote(number))]
        return [] if got == wanted else [f"round {number}: got {got}, not {wanted}"]


def main():
    options = {"address": sys.argv[1]} if len(sys.argv) > 1 else {"num_cpus": 2}
    aktis.init(log_to_driver=False, **options)  # pyright: ignore[reportArgumentType]
    is_told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_told.set()), daemon=True).start()
    work, number, failures = Work(), 0, []
    try:
        while not (is_told.is_set() or failures):
            failures += work.round(number)
            number += 1
            print("round", flush=True)
    except Exception as error:  # noqa: BLE001 - told to whoever runs the program
        failures.append(f"round {number}: {error!r}")
    print(json.dumps({"failures": failures, "rounds": number}), flush=True)


if __name__ == "__main__":
    main()
