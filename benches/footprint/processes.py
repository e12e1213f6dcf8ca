"""What a tree of processes owns, from `/proc` (Linux only)."""

import os
import time

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def descendants(root):
    """The process and all that came from it, by pid."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def memory(pid):
    """Bytes of a process: `uss` its own, `pss` with its share of what it shares, `shm` the shared memory in that."""
    fields = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup.readlines()[1:]:
                name, kilobytes = line.split(":")
                fields[name] = int(kilobytes.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return {"uss": 0, "pss": 0, "shm": 0}
    uss = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
    return {"uss": uss, "pss": fields.get("Pss", 0), "shm": fields.get("Pss_Shmem", 0)}


def total(pids, kind):
    return sum(memory(pid)[kind] for pid in pids)


def cpu_seconds(pids):
    """User and system time that each process has used so far."""
    used = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        used[pid] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return used


def until_quiet(root, limit_s=30):
    """Waits until the processes of the tree and their memory stay the same for a second, or the limit is over."""
    deadline, last, calm_since = time.monotonic() + limit_s, None, time.monotonic()
    while time.monotonic() < deadline:
        pids = descendants(root)
        now = (len(pids), total(pids, "uss"))
        if last is None or now[0] != last[0] or abs(now[1] - last[1]) > 0.01 * last[1]:
            last, calm_since = now, time.monotonic()
        elif time.monotonic() - calm_since >= 1:
            return
        time.sleep(0.2)
