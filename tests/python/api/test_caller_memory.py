"""A caller that is ahead of its callees: arguments that wait stay within `max_queued_bytes` of its own memory; what is beyond goes
to the object store, which spills."""

import json

import pytest
from waiting import run

LIMIT_MB = 32
#: The limit, what the allocator keeps, and frames being written, three times over; and a record for each call.
ALLOWED_MB = 3 * LIMIT_MB + 100
CALLS, PAYLOAD_BYTES = 5000, 80_000  # 400 MB
STORE_BYTES = 100 << 20

SCRIPT = """
import json, os, time
import aktis

aktis.init(num_cpus=1, object_store_memory={store_bytes}, log_to_driver=False)

def private_mb():
    # Without the store's memory, which the session of this process has mapped: it has a limit of its own.
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

@aktis.remote(num_cpus=0)
class Callee:
    def take(self, gate, number, payload):
        wait_for(gate)
        return number, payload[0], len(payload)

@aktis.remote
def take(gate, number, payload):
    wait_for(gate)
    return number, payload[0], len(payload)

def wait_for(gate):
    while not os.path.exists(gate):
        time.sleep(0.01)

gate = {gate!r}
take = {take}
aktis.get(aktis.remote(lambda: None).remote())
before, most = private_mb(), 0.0
refs = []
for number in range({calls}):
    refs.append(take.remote(gate, number, bytes([number % 251]) * {payload_bytes}))
    if number % 100 == 0:
        most = max(most, private_mb())
most = max(most, private_mb())
open(gate, "w").close()
wrong = [number for number, ref in enumerate(refs)
         if aktis.get(ref, timeout=60) != (number, number % 251, {payload_bytes})]
print(json.dumps([most - before, wrong]))
"""


@pytest.mark.parametrize("take", ["Callee.remote().take", "take"], ids=["actor", "tasks"])
def test_arguments_that_wait_do_not_fill_the_callers_memory(take, tmp_path):
    script = SCRIPT.format(
        store_bytes=STORE_BYTES,
        gate=str(tmp_path / "gate"),
        take=take,
        calls=CALLS,
        payload_bytes=PAYLOAD_BYTES,
    )
    env = {"AKTIS_MAX_QUEUED_BYTES": str(LIMIT_MB << 20), "AKTIS_SPILL_DIR": str(tmp_path / "spilled")}
    grown_mb, wrong = json.loads(run(script, env=env, deadline_s=120))
    assert wrong == []
    assert grown_mb < ALLOWED_MB
