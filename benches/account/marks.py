"""From marks to the account of a call. A mark is `(name, thread, nanoseconds)`, as `_aktis.take_stages()` gives them.

Labels are `side name`, such as `caller sent`.
"""

import collections
import itertools
import statistics

#: Of Python itself: before the call begins, and after it has ended and its reference is dropped.
BEGIN, END = "calling", "done"


def labelled(caller, callee):
    """All marks in the order of time, as `(nanoseconds, label)`."""
    sides = (("caller", caller), ("callee", callee))
    return sorted((at, f"{side} {name}") for side, marks in sides for name, _, at in marks)


def calls_of(marks):
    """The marks of each call by label: the times at which it passed."""
    calls, current = [], None
    for at, label in marks:
        if label == f"caller {BEGIN}":
            current = collections.defaultdict(list)
        if current is not None:
            current[label].append(at)
        if label == f"caller {END}" and current is not None:
            calls.append(current)
            current = None
    return calls


def along(path, calls):
    """Median microseconds between each two stages of `path`, over the calls that pass each of them exactly once."""
    usual = [[call[label][0] for label in path] for call in calls if all(len(call[label]) == 1 for label in path)]
    steps = [
        {"from": path[i], "to": path[i + 1], "us": statistics.median(times[i + 1] - times[i] for times in usual) / 1e3}
        for i in range(len(path) - 1)
    ]
    return {"steps": steps, "usual": len(usual) / len(calls)}


def shares(side, marks, calls):
    """What each thread of a side did between two marks, summed over the threads: microseconds and times, per call."""
    threads = collections.defaultdict(list)
    for name, thread, at in marks:
        threads[thread].append((at, f"{side} {name}"))
    spent, times = collections.Counter(), collections.Counter()
    for passed in threads.values():
        for (begun, a), (ended, b) in itertools.pairwise(sorted(passed, key=lambda mark: mark[0])):
            spent[a, b] += ended - begun
            times[a, b] += 1
    return [{"from": a, "to": b, "us": spent[a, b] / calls / 1e3, "times": times[a, b] / calls} for a, b in spent]
