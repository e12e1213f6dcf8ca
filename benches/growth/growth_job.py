"""How the cost of one thing changes with how many there are. Prints one JSON object in its last line.

    python growth_job.py --series tasks --most 1000000 [--windows 3] [--cpus 2]

Each series is `{"n": [...], "parts": {name: [seconds per item, ...]}}`, one entry per `n`; `"comparison"` lists
parts that are no measure of Aktis, `"floors"` names, for some of the others, the one that does the same without a runtime.
"""

import argparse
import json
import statistics
import time

import aktis
import bare

#: A window is repeated as often as asked for, and until so many seconds are spent on one `n`: a short one is a noisy one.
LEAST_S = 0.2
#: But it is not begun again when so many are spent.
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
    results, begun, spent = [], time.perf_counter(), 0.0
    while not results or spent < LEAST_S or (len(results) < windows and spent < ENOUGH_S):
        results.append(window())
        spent = time.perf_counter() - begun
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

    aktis.init(num_cpus=options.cpus, log_to_driver=False)
    aktis.get([nothing.remote() for _ in range(1000)])
    return series(sizes(100, options.most), options.windows, window_of)


def actors(options):
    """Calls of n actors in turn: 1000 to each, the same number in all, and one at a time; seconds per call. Each window is
    beside one of the same between bare processes."""

    @aktis.remote(num_cpus=0)
    class Nothing:
        def call(self):
            return None

    calls, started = options.calls, []
    few = calls // 10
    aktis.init(num_cpus=options.cpus, log_to_driver=False)

    def window_of(n):
        processes.grow(n)
        started.extend(Nothing.remote() for _ in range(n - len(started)))
        aktis.get([actor.call.remote() for actor in started])

        def at_once(number):
            return timed(lambda: aktis.get([started[i % n].call.remote() for i in range(number)]))[0]

        def window():
            bare_one_by_one, _ = timed(lambda: processes.one_by_one(n, few))
            one_by_one, _ = timed(lambda: [aktis.get(started[i % n].call.remote()) for i in range(few)])
            bare_at_once, _ = timed(lambda: processes.all_at_once(n, calls))
            # The tables divide by n, and the costs are one per call.
            return {
                "1000 each, at once": at_once(1000 * n) / 1000,
                f"{calls} in all, at once": at_once(calls) * n / calls,
                "one by one": one_by_one * n / few,
                "bare processes, at once": bare_at_once * n / calls,
                "bare processes, one by one": bare_one_by_one * n / few,
            }

        return window

    with bare.BareProcesses() as processes:
        table = series([1, 2, 5, 10, 20, 50, 100], options.windows, window_of)
    table["comparison"] = ["bare processes, at once", "bare processes, one by one"]
    table["floors"] = {
        "1000 each, at once": "bare processes, at once",
        f"{calls} in all, at once": "bare processes, at once",
        "one by one": "bare processes, one by one",
    }
    return table


def references(options):
    """n small values: putting, getting, waiting for all, dropping the references. A dict of n objects for comparison."""

    def window_of(n):
        def window():
            put, refs = timed(lambda: [aktis.put(i) for i in range(n)])
            # Nothing that these return is kept: the list alone holds the references when it is cleared.
            got = timed(lambda: aktis.get(refs))[0]
            wait = timed(lambda: aktis.wait(refs, num_returns=n))[0]
            drop = timed(refs.clear)[0]
            fill, filled = timed(lambda: bare.fill(n))
            look_up = timed(lambda: bare.look_up(*filled))[0]
            keys = bare.shuffled(filled[0])
            at_random = timed(lambda: bare.look_up(keys, filled[1]))[0]
            floor = {"fill a dict": fill, "read a dict": look_up, "read a dict at random": at_random}
            return {"put": put, "get": got, "wait": wait, "drop": drop, **floor}

        return window

    aktis.init(num_cpus=options.cpus, log_to_driver=False)
    table = series(sizes(100, options.most), options.windows, window_of)
    table["comparison"] = ["fill a dict", "read a dict", "read a dict at random"]
    table["floors"] = {
        "put": "fill a dict",
        "get": "read a dict at random",
        "wait": "read a dict at random",
        "drop": "read a dict at random",
    }
    return table


def pending(options):
    """n references that are not ready, calls that wait for an actor which is busy for good: looking at all of them, and
    waiting for all until one more becomes ready."""

    @aktis.remote(num_cpus=0)
    class Busy:
        def sleep(self):
            time.sleep(1e6)

    @aktis.remote(num_cpus=0)
    class Quick:
        def answer(self):
            return None

    aktis.init(num_cpus=options.cpus, log_to_driver=False)
    quick, busy = Quick.remote(), []
    aktis.get(quick.answer.remote())

    def window_of(n):
        # All calls of the last one fail, and nothing of them is left.
        while busy:
            aktis.kill(busy.pop())
        busy.append(Busy.remote())
        refs = [busy[0].sleep.remote() for _ in range(n)]
        keys, filled = bare.fill(n)
        keys = bare.shuffled(keys)

        def window():
            look = timed(lambda: aktis.wait(refs, timeout=0))[0]
            refs.append(quick.answer.remote())
            one = timed(lambda: aktis.wait(refs, num_returns=1))[0]
            refs.pop()
            at_random = timed(lambda: bare.look_up(keys, filled))[0]
            return {"wait, none ready": look, "wait, one becomes ready": one, "read a dict at random": at_random}

        return window

    table = series(sizes(100, options.most), options.windows, window_of)
    table["comparison"] = ["read a dict at random"]
    table["floors"] = dict.fromkeys(("wait, none ready", "wait, one becomes ready"), "read a dict at random")
    return table


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

    aktis.init(num_cpus=options.cpus, log_to_driver=False)
    return series(sizes(100, options.most), options.windows, window_of)


SERIES = {"tasks": tasks, "actors": actors, "references": references, "pending": pending, "contained": contained}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", choices=SERIES, required=True)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    table = SERIES[options.series](options)
    aktis.shutdown()
    print("\n" + json.dumps(table), flush=True)


if __name__ == "__main__":
    main()
