"""Callees of every kind that do not come to their calls: what waits for them does not fill their memory."""

import asyncio
import os
import time

import aktis
import pytest
from waiting import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("session")

PAYLOAD_BYTES = 80_000
#: 240 MB: less than a caller keeps in its own memory for callees that are not ready.
CALLS = 3000
#: What the callee may keep: its window of 16 MB, what it frees and does not give back, and shared memory.
ALLOWED_MB = 100
#: For a runtime without back-pressure to fill the callee's memory; the right one needs no time.
GO_WRONG_S = 1


def memory_mb(pid, field):
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


class Growth:
    """How much the memory of processes has grown at most since they were first looked at."""

    def __init__(self, pids):
        self._before_mb = {pid: memory_mb(pid, "VmRSS") for pid in pids}

    def most_mb(self):
        return max(memory_mb(pid, "VmHWM") - before for pid, before in self._before_mb.items())


def is_open(gate):
    return os.path.exists(gate)


class Base:
    def __init__(self):
        self.seen = []

    def notes(self):
        return sorted(self.seen)


class Plain(Base):
    def pid(self):
        return os.getpid()

    def note(self, number, gate, _payload):
        until(lambda: is_open(gate), "the gate")
        self.seen.append(number)


class Grouped(Plain):
    """Notes in a group of its own, whose threads all wait."""

    @aktis.method(concurrency_group="notes")
    def note(self, number, gate, payload):
        super().note(number, gate, payload)


class Async(Base):
    async def pid(self):
        return os.getpid()

    async def note(self, number, gate, _payload):
        while not is_open(gate):
            await asyncio.sleep(0.01)
        self.seen.append(number)


class GroupedAsync(Async):
    @aktis.method(concurrency_group="notes")
    async def note(self, number, gate, payload):
        await super().note(number, gate, payload)


class StuckLoop(Async):
    """Its loop does not get round to anything: a method waits without `await`."""

    async def note(self, number, gate, _payload):
        until(lambda: is_open(gate), "the gate")
        self.seen.append(number)


KINDS = {
    "plain": (Plain, {}),
    "threads": (Plain, {"max_concurrency": 4}),
    "groups of threads": (Grouped, {"concurrency_groups": {"notes": 2}}),
    "async": (Async, {"max_concurrency": 10}),
    "async, loop stuck": (StuckLoop, {"max_concurrency": 10}),
    "groups of coroutines": (GroupedAsync, {"concurrency_groups": {"notes": 2}, "max_concurrency": 10}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_an_actor_does_not_come_to_do_not_fill_its_memory(kind, tmp_path):
    actor_class, options = KINDS[kind]
    actor = aktis.remote(num_cpus=0, **options)(actor_class).remote()
    growth = Growth([aktis.get(actor.pid.remote(), timeout=DEADLINE_S)])
    gate, payload = tmp_path / "gate", bytes(PAYLOAD_BYTES)
    refs = [actor.note.remote(number, str(gate), payload) for number in range(CALLS)]
    time.sleep(GO_WRONG_S)
    gate.touch()
    aktis.get(refs, timeout=DEADLINE_S)
    assert aktis.get(actor.notes.remote(), timeout=DEADLINE_S) == list(range(CALLS))
    assert growth.most_mb() < ALLOWED_MB


@pytest.mark.parametrize("kind", ["groups of threads", "groups of coroutines"])
def test_a_group_that_is_stuck_holds_back_no_call_of_another(kind, tmp_path):
    actor_class, options = KINDS[kind]
    actor = aktis.remote(num_cpus=0, **options)(actor_class).remote()
    gate = tmp_path / "gate"
    refs = [actor.note.remote(number, str(gate), bytes(PAYLOAD_BYTES)) for number in range(CALLS // 3)]
    assert aktis.get(actor.notes.remote(), timeout=DEADLINE_S) == []
    gate.touch()
    aktis.get(refs, timeout=DEADLINE_S)
    assert aktis.get(actor.notes.remote(), timeout=DEADLINE_S) == list(range(CALLS // 3))


def test_tasks_that_workers_do_not_come_to_do_not_fill_their_memory(tmp_path):
    @aktis.remote
    def wait_or_count(number, folder, payload):
        if folder:
            (folder / f"pid-{os.getpid()}").touch()
            until(lambda: is_open(folder / "gate"), "the gate")
        return number, len(payload)

    # Tasks this short are sent ahead, as many as there is room for.
    aktis.get([wait_or_count.remote(number, None, b"") for number in range(500)], timeout=DEADLINE_S)
    waiting = [wait_or_count.remote(number, tmp_path, b"") for number in range(4)]
    until(lambda: len(list(tmp_path.glob("pid-*"))) == 4, "four workers that wait")
    growth = Growth([path.name.removeprefix("pid-") for path in tmp_path.glob("pid-*")])
    payload = bytes(PAYLOAD_BYTES)
    refs = [wait_or_count.remote(number, tmp_path, payload) for number in range(CALLS)]
    time.sleep(GO_WRONG_S)
    (tmp_path / "gate").touch()
    assert aktis.get(refs, timeout=DEADLINE_S) == [(number, PAYLOAD_BYTES) for number in range(CALLS)]
    assert aktis.get(waiting, timeout=DEADLINE_S) == [(number, 0) for number in range(4)]
    assert growth.most_mb() < ALLOWED_MB
