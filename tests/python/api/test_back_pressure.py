"""Callees that are slow: what waits for them waits with its caller."""

import asyncio
import os

import aktis
import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("session")

DEADLINE_S = 50


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@aktis.remote
class Slow:
    def __init__(self):
        self.seen = []

    def pid(self):
        return os.getpid()

    def hold(self, gate):
        until(lambda: os.path.exists(gate), "the gate opens")

    def note(self, number, _payload):
        self.seen.append(number)

    def notes(self):
        return self.seen


def test_calls_to_an_actor_that_is_held_up_do_not_fill_its_memory(tmp_path):
    slow = Slow.remote()
    pid = aktis.get(slow.pid.remote(), timeout=DEADLINE_S)
    before = resident_mb(pid)
    gate = tmp_path / "gate"
    held = slow.hold.remote(str(gate))
    payload = bytes(10_000)
    count = 20_000  # 200 MB
    for number in range(count):
        slow.note.remote(number, payload)
    # What is on its way arrives.
    assert not aktis.wait([held], timeout=0.5)[0]
    assert resident_mb(pid) - before < 80
    gate.touch()
    assert aktis.get(slow.notes.remote(), timeout=DEADLINE_S) == list(range(count))


def test_as_many_calls_arrive_as_the_actor_runs_at_once():
    """1500 calls that wait for one that comes after them: holding that one back would be a deadlock."""

    @aktis.remote(max_concurrency=2000)
    class Gate:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()
            return 1

        async def open(self):
            self.event.set()

    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(1999)]
    gate.open.remote()
    assert sum(aktis.get(waiting, timeout=DEADLINE_S)) == 1999


def test_a_queued_call_is_cancelled_where_it_waits(tmp_path):
    slow = Slow.remote()
    aktis.get(slow.pid.remote(), timeout=DEADLINE_S)
    slow.hold.remote(str(tmp_path / "gate"))
    refs = [slow.note.remote(number, None) for number in range(3000)]
    for ref in refs[1::2]:
        aktis.cancel(ref)
    assert aktis.wait(refs[1::2], num_returns=1500, timeout=DEADLINE_S)[1] == [], "they wait for those before them"
    (tmp_path / "gate").touch()
    assert aktis.get(slow.notes.remote(), timeout=DEADLINE_S) == list(range(0, 3000, 2))


def test_the_limit_of_pending_calls_is_kept(tmp_path):
    slow = Slow.options(max_pending_calls=5).remote()
    refs = [slow.hold.remote(str(tmp_path / "gate"))]
    with pytest.raises(aktis.exceptions.PendingCallsLimitExceeded, match="max_pending_calls=5"):
        for number in range(10):
            refs.append(slow.note.remote(number, None))
    assert len(refs) == 5
    (tmp_path / "gate").touch()
    aktis.get(refs, timeout=DEADLINE_S)
    aktis.get(slow.pid.remote(), timeout=DEADLINE_S)
