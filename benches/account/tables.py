"""The tables of the account, as Markdown."""

#: What happens between two marks: (from, to) -> (where, what). Steps with the same text are added up.
STEPS = {
    ("caller calling", "caller called"): ("caller", "Python: into the native code"),
    ("caller called", "caller args_encoded"): ("caller", "arguments to bytes"),
    ("caller args_encoded", "caller queued"): ("caller", "object and task tables, frame into the outbox"),
    ("caller queued", "caller sending"): ("caller", "object and task tables, frame into the outbox"),
    ("caller sending", "caller sent"): ("kernel", "`sendmsg`"),
    ("caller sent", "callee readable"): ("kernel", "wake-up: until the callee's `epoll_wait` has returned"),
    ("callee readable", "callee received"): ("kernel", "`recv`"),
    ("callee received", "callee taken"): ("callee", "frame decoded, handed to the executor"),
    ("callee taken", "callee args_decoded"): ("callee", "interpreter lock, arguments to objects"),
    ("callee args_decoded", "callee returned"): ("user", "function looked up and run (it returns None)"),
    ("callee returned", "callee queued"): ("callee", "result to bytes, frame into the outbox"),
    ("callee queued", "callee sending"): ("callee", "result to bytes, frame into the outbox"),
    ("callee sending", "callee sent"): ("kernel", "`sendmsg`"),
    ("callee sent", "caller readable"): ("kernel", "wake-up: until the caller's `epoll_wait` has returned"),
    ("caller readable", "caller received"): ("kernel", "`recv`"),
    ("caller received", "caller woken"): ("caller", "frame decoded, task ended, value found by the waiting thread"),
    ("caller woken", "caller value_decoded"): ("caller", "value to object"),
    ("caller value_decoded", "caller releasing"): ("caller", "Python: return from `get`"),
    ("caller releasing", "caller released"): ("caller", "reference dropped: object table"),
    ("caller released", "caller done"): ("caller", "Python: rest of the dropped reference, return"),
    ("caller sent", "caller submitted"): ("caller", "reference made"),
    ("caller submitted", "caller asked"): ("caller", "Python: return from `remote`, into `get`"),
    ("caller args_encoded", "caller submitted"): ("caller", "object table, reference made"),
    ("caller submitted", "caller releasing"): ("caller", "Python: return from `put`"),
    ("caller args_encoded", "caller store_created"): ("raylet", "room in the store: object table, a question to the raylet"),
    ("caller store_created", "caller store_written"): ("caller", "memcpy into the arena"),
    ("caller store_written", "caller submitted"): ("caller", "seal told, object table, reference made"),
    ("caller calling", "caller asked"): ("caller", "Python: into `get`"),
    ("caller asked", "caller woken"): ("caller", "value found"),
    ("caller asked", "caller store_pinned"): ("raylet", "a question to the raylet; range pinned and checked"),
    ("caller store_pinned", "caller woken"): ("caller", "layout of the value read"),
    ("caller value_decoded", "caller done"): ("caller", "Python: return, value dropped"),
}  # fmt: skip

#: The same step of an async actor.
ON_LOOP = {
    ("callee args_decoded", "callee returned"): (
        "user",
        "asyncio: a task, a step of the loop; method run (it returns None)",
    ),
}

#: What a thread does between two marks of calls in flight: (side, from or None for any, to, what). The first that fits counts.
#: No text: it waits, which is no work.
WORK = (
    ("caller", None, "called", "Python: loop, return, into the native code"),
    ("caller", None, "args_encoded", "arguments to bytes"),
    ("caller", ("received", "queued"), "handled", "answers decoded, tasks ended, waiting tasks sent"),
    ("caller", ("received",), "queued", "answers decoded, tasks ended, waiting tasks sent"),
    ("caller", ("queued",), "queued", "answers decoded, tasks ended, waiting tasks sent"),
    ("caller", None, "queued", "object and task tables, frame into the outbox, reference made"),
    ("caller", None, "submitted", "object and task tables, frame into the outbox, reference made"),
    ("caller", ("queued", "args_encoded"), "sending", "object and task tables, frame into the outbox, reference made"),
    ("caller", None, "sent", "`sendmsg`"),
    ("caller", None, "received", "`recv`"),
    ("caller", None, "handled", "answers decoded, tasks ended, waiting tasks sent"),
    ("caller", None, "woken", "values found by the waiting thread"),
    ("caller", None, "value_decoded", "values to objects"),
    ("caller", None, "released", "reference dropped: object table"),
    ("caller", None, "asked", "Python: loop, return, into the native code"),
    ("caller", None, "releasing", "Python: list of references dropped"),
    ("callee", None, "received", "`recv`"),
    ("callee", None, "handled", "frames decoded, put into the queue"),
    ("callee", None, "taken", "next call from the queue"),
    ("callee", None, "args_decoded", "interpreter lock, arguments to objects"),
    ("callee", None, "returned", "function looked up and run (it returns None)"),
    ("callee", None, "queued", "result to bytes, frame into the outbox"),
    ("callee", ("queued",), "sending", "result to bytes, frame into the outbox"),
    ("callee", None, "sent", "`sendmsg`"),
    ("caller", None, "readable", None),
    ("callee", None, "readable", None),
    ("caller", None, "sending", None),
    ("callee", None, "sending", None),
)
#: In whose name calls share one of these.
SHARED = ("`sendmsg`", "`recv`")

#: The start of a cold process: (event, the event before it, where, what).
START = (
    ("begun", None, "driver", "interpreter up"),
    ("imported", "begun", "driver", "`import aktis`, native module loaded"),
    ("session begins", "imported", "driver", "`init`: what it imports"),
    ("session", "session begins", "driver", "`init`: gcs, raylet, store, sockets; the zygote is started"),
    ("connected begins", "session", "driver", "`init`: what workers are likely to import, printing of their lines"),
    ("connected", "connected begins", "driver", "`init`: joins the node as a driver"),
    ("init", "connected", "driver", "`init`: rest"),
    ("submitted", "init", "driver", "function pickled, task submitted"),
    ("loaded", "session begins", "zygote", "its interpreter up, native module loaded"),
    ("zygote_ready", "loaded", "zygote", "what workers need imported"),
    ("forked", "zygote_ready", "worker", "forked"),
    ("joined", "forked", "worker", "joins the node"),
    ("ran", "joined", "worker", "lease, lane, function loaded and entered"),
    ("result", "ran", "driver", "result in the driver"),
    ("shutdown", "result", "driver", "`shutdown`: workers ended, folder removed"),
    ("gone", "shutdown", "driver", "interpreter gone"),
)

#: The start of several actors: (event, where, what), in the order in which each comes there.
ACTOR_STARTS = (
    ("submitted", "driver", "actors created and called, nothing awaited"),
    ("forked", "zygote", "process forked"),
    ("joined", "worker", "joins the node"),
    ("constructed", "worker", "class loaded, constructor run"),
    ("called", "worker", "lane from the driver, method entered"),
    ("answered", "driver", "all answers in the driver"),
)


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def amount(us):
    """Microseconds with three figures, from nanoseconds to milliseconds."""
    return f"{us:,.0f}".replace(",", " ") if abs(us) >= 100 else f"{us:.2f}"


def step_table(measured, floors, names):
    """The steps of a call, their sum, the same call unrecorded, and the floors below."""
    summed = []
    for step in measured["steps"]:
        where, what = names.get((step["from"], step["to"]), ("", f"{step['from']} to {step['to']}"))
        us = step["us"]
        if summed and summed[-1][:2] == (where, what):
            us += summed.pop()[2]
        summed.append((where, what, us))
    rows = [(where, what, amount(us)) for where, what, us in summed]
    rows.append(("", "**sum**", f"**{amount(sum(step['us'] for step in measured['steps']))}**"))
    rows.append(("", "**the same call, marks off**", f"**{amount(measured['us'])}**"))
    for step in measured.get("beside", ()):
        where, what = names[step["from"], step["to"]]
        rows.append((where, f"meanwhile, not in the sum: {what}", amount(step["us"])))
    rows += [("floor", what, amount(us)) for what, us in floors]
    return markdown(("where", "what", "µs"), rows)


def titled(name, measured, floors, names=STEPS):
    title = f"**{name[0].upper()}{name[1:]}** ({measured['usual']:.0%} of the calls pass each of these stages once)"
    return f"{title}\n\n{step_table(measured, floors, names)}"


def work_of(share):
    """Whose work it is that ends at a mark, and what."""
    (side, a), (_, b) = share["from"].split(" "), share["to"].split(" ")
    for owner, froms, to, what in WORK:
        if owner == side and to == b and (froms is None or a in froms):
            return (side, what) if what else None
    return (side, "other")


def summed_work(measured):
    """Microseconds and times per call of each work, in the order of `WORK`."""
    spent, times = {}, {}
    for share in measured["shares"]:
        work = work_of(share)
        if work:
            spent[work] = spent.get(work, 0.0) + share["us"]
            times[work] = times.get(work, 0.0) + share["times"]
    return spent, times


def shared(times):
    return f"1 for {1 / times:.0f}" if times else "-"


def flight_table(kinds, floor_us):
    """Calls in flight, per call: a column of microseconds for each kind, and how many calls share a system call."""
    works = [summed_work(measured) for measured in kinds.values()]
    order = list(dict.fromkeys((side, what) for side, _, _, what in WORK if what)) + [
        ("caller", "other"),
        ("callee", "other"),
    ]
    rows = []
    for side in ("caller", "callee"):
        for work in (work for work in order if work[0] == side):
            if not any(work in spent for spent, _ in works):
                continue
            cells = []
            for spent, times in works:
                cell = f"{spent.get(work, 0):.2f}"
                cells.append(f"{cell} ({shared(times.get(work, 0))})" if work[1] in SHARED else cell)
            rows.append((*work, *cells))
        sums = (sum(us for (owner, _), us in spent.items() if owner == side) for spent, _ in works)
        rows.append((side, "**sum, all threads**", *(f"**{us:.2f}**" for us in sums)))
        cpu = (f"**{measured[f'{side}_cpu_us']:.2f}**" for measured in kinds.values())
        rows.append((side, "**CPU, marks off**", *cpu))
    rows.append(("", "**wall clock, marks off**", *(f"**{measured['us']:.2f}**" for measured in kinds.values())))
    rows.append(("floor", "bare processes, each message with a `send` of its own", *[f"{floor_us:.2f}"] * len(kinds)))
    return markdown(("where", "what", *(f"{kind}, µs" for kind in kinds)), rows)


def start_table(start, floors):
    """What came when in a cold process, in the order of time. Zygote and worker run beside the driver."""
    rows = []
    for event, before, where, what in sorted(START, key=lambda line: start[line[0]]):
        took = start[event] - (start[before] if before else 0.0)
        rows.append((where, what, f"{took:.1f}", f"{start[event]:.1f}"))
    rows += [
        ("floor", "a Python process that does nothing", f"{floors['python_ms']:.1f}", ""),
        ("floor", "fork of a Python process, and wait", f"{floors['fork_ms']:.1f}", ""),
        ("floor", "fork and exec of `/bin/true`, and wait", f"{floors['exec_ms']:.1f}", ""),
    ]
    return markdown(("where", "what", "took, ms", "at, ms"), rows)


def actors_table(measured):
    """When the first, the middle and the last of the actors came where, and what bare forks take."""
    rows = []
    for event, where, what in ACTOR_STARTS:
        first, middle, last = (f"{at:.1f}" for at in measured["events"][event])
        rows.append((where, what, *((first, middle, last) if where in ("zygote", "worker") else ("", "", last))))
    floor = measured["forks_ms"]
    rows.append(("floor", "as many bare forks of a process like the zygote, until each runs", "", "", f"{floor:.1f}"))
    rows.append(("", "**times the floor**", "", "", f"**{measured['events']['answered'][2] / floor:.1f}**"))
    return markdown(("where", "what", "first, ms", "middle, ms", "last, ms"), rows)
