"""How the cost of one thing changes with how many there are. Prints one JSON object in its last line.

    python growth_job.py --series tasks --most 1000000 [--windows 3] [--cpus 2]

Each series is `{"n": [...], "parts": {name: [seconds per item, ...]}}`, one entry per `n`.
"""

import argparse
import json
import statistics
import time

import aktis

#: A window is repeated until so many seconds are spent on one `n`.
ENOUGH_S = 2.0


def sizes(first, most):
    """1, 3, 10, 30, ... between `first` and `most`, both included."""
    found, decade = [], 1
    while decade <= most:
        found += [n for n in (decade, 3 * decade) if first <= n <= most]
        decade *= 10
    return found if found and found[-1] == most else [*found, most]


def timed(action):
    start = time.perf_counter()
    value = action()
    return time.perf_counter() - start, value


def measured(windows, window):
    """Medians of what `window` returns, a dict of seconds, over several windows."""
    results, begun = [], time.perf_counter()
    while len(results) < windows and (not results or time.perf_counter() - begun < ENOUGH_S):
        results.append(window())
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def series(ns, windows, window_of):
    """The table of one series: `window_of(n)` gives the function that measures `n` items once."""
    table = {"n": ns, "parts": {}}
    for n in ns:
        for name, seconds in measured(windows, window_of(n)).items():
            table["parts"].setdefault(name, []).append(seconds / n)
    return table


def tasks(options):
    """n tasks queued at once: submitting them, getting all results, dropping the references."""

    @aktis.remote
    def nothing():
        return None

    def window_of(n):
        def window():
            submit, refs = timed(lambda: [nothing.remote() for _ in range(n)])
            got = timed(lambda: aktis.get(refs))[0]
            drop = timed(refs.clear)[0]
            return {"submit": submit, "get": got, "drop": drop, "in all": submit + got + drop}

        return window

    aktis.get([nothing.remote() for _ in range(1000)])
    return series(sizes(100, options.most), options.windows, window_of)


def actors(options):
    """The same number of calls, spread over n actors: seconds per call."""
    calls, started = options.calls, []

    @aktis.remote(num_cpus=0)
    class Nothing:
        def call(self):
            return None

    def window_of(n):
        started.extend(Nothing.remote() for _ in range(n - len(started)))
        aktis.get([actor.call.remote() for actor in started])

        def window():
            together, _ = timed(lambda: aktis.get([started[i % n].call.remote() for i in range(calls)]))
            one_by_one, _ = timed(lambda: [aktis.get(started[i % n].call.remote()) for i in range(calls // 10)])
            # The table divides by n, and the cost is one per call.
            return {"all at once": together * n / calls, "one by one": one_by_one * n / (calls // 10)}

        return window

    return series([1, 2, 5, 10, 20, 50, 100], options.windows, window_of)


def references(options):
    """n small values: putting, getting, waiting for all, dropping the references."""

    def window_of(n):
        def window():
            put, refs = timed(lambda: [aktis.put(i) for i in range(n)])
            # Nothing that these return is kept: the list alone holds the references when it is cleared.
            got = timed(lambda: aktis.get(refs))[0]
            wait = timed(lambda: aktis.wait(refs, num_returns=n))[0]
            drop = timed(refs.clear)[0]
            return {"put": put, "get": got, "wait": wait, "drop": drop}

        return window

    return series(sizes(100, options.most), options.windows, window_of)


def contained(options):
    """One value that holds n references: putting it, reading it back, dropping it."""

    def window_of(n):
        inner = [aktis.put(i) for i in range(n)]

        def window():
            held = []
            put, _ = timed(lambda: held.append(aktis.put(inner)))
            got, _ = timed(lambda: held.append(aktis.get(held[0])))
            drop, _ = timed(held.clear)
            return {"put": put, "get": got, "drop": drop}

        return window

    return series(sizes(100, options.most // 10), options.windows, window_of)


SERIES = {"tasks": tasks, "actors": actors, "references": references, "contained": contained}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", choices=SERIES, required=True)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    aktis.init(num_cpus=options.cpus, log_to_driver=False)
    table = SERIES[options.series](options)
    aktis.shutdown()
    print("\n" + json.dumps(table), flush=True)


if __name__ == "__main__":
    main()
