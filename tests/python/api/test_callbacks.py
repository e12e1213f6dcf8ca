"""Python code that runs because of the runtime (finalizers, the printing of workers' lines): it may call the runtime, and it may
block, and no wait hangs for it (LANE-5)."""

import json

import pytest
from waiting import DEADLINE_S, driver, run, until

#: The collector runs at every chance, most of all while the driver prints what workers print; and each time it finds a cycle
#: whose finalizer calls the runtime.
COLLECTING = """
import gc, json, time
import aktis

aktis.init(num_cpus=2)

@aktis.remote
def chatter(number):
    for line in range(20):
        print("line", line)
    time.sleep(0.02)
    return number

@aktis.remote
def square(number):
    return number * number

@aktis.remote(num_cpus=0)
class Idle:
    def pid(self):
        return 1

def dead():
    from aktis import _aktis
    return sum(actor["state"] == "DEAD" for actor in _aktis.list_actors())

class Finalized:
    def __init__(self, finalizer):
        self.finalizer = finalizer
        self.me = self

    def __del__(self):
        self.finalizer()

def await_finalizers(count):
    # A thread of the runtime may be in the middle of one.
    deadline = time.monotonic() + 25
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.01)

seen = []
gc.collect()
gc.disable()
{prepare}
gc.set_threshold(1)
gc.enable()
for number in range(COUNT):
    refs = [chatter.remote(i) for i in range(4)]
    gc.disable()
    Finalized(finalizers.pop())
    gc.enable()
    assert aktis.get(refs, timeout=25) == list(range(4))
gc.collect()
{check}
await_finalizers(COUNT)
# In one piece: between two pieces of a line, the lines of workers are printed.
print(f"RESULT {{json.dumps(sorted(seen))}}\\n", end="", flush=True)
"""


def result_of(script):
    output = run(script)
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


def test_finalizers_kill_actors_while_the_driver_waits():
    prepare = """
COUNT = 20
actors = [Idle.remote() for _ in range(COUNT)]
aktis.get([actor.pid.remote() for actor in actors], timeout=25)
finalizers = [lambda actor=actor: seen.append(aktis.kill(actor)) for actor in actors]
"""
    check = """
await_finalizers(COUNT)
deadline = time.monotonic() + 25
while dead() < COUNT and time.monotonic() < deadline:
    time.sleep(0.05)
seen, COUNT = [dead()], 1
"""
    assert result_of(COLLECTING.format(prepare=prepare, check=check)) == [20]


def test_finalizers_get_results_while_the_driver_waits():
    prepare = """
COUNT = 40
finalizers = [lambda n=n: seen.append(aktis.get(square.remote(n), timeout=25)) for n in range(COUNT)]
"""
    assert result_of(COLLECTING.format(prepare=prepare, check="")) == [number**2 for number in range(40)]


def test_finalizers_put_and_wait_while_the_driver_waits():
    prepare = """
COUNT = 40

def finalize(number):
    ref = aktis.put(bytes([number]) * 200_000)
    ready, _ = aktis.wait([square.remote(number), ref], num_returns=2, timeout=25)
    seen.append(len(ready) + len(aktis.get(ref)))

finalizers = [lambda n=n: finalize(n) for n in range(COUNT)]
"""
    assert result_of(COLLECTING.format(prepare=prepare, check="")) == [200_002] * 40


#: The collector runs after so many allocations, a number that changes: now and then that is where the driver is told of results.
TOLD = """
import asyncio, gc, json, time
import aktis

aktis.init(num_cpus=2, log_to_driver=False)

@aktis.remote
def square(number):
    return number * number

class Finalized:
    def __init__(self, number):
        self.number = number
        self.me = self

    def __del__(self):
        seen.append(aktis.get(square.remote(self.number), timeout=25))

async def gathered(refs):
    return await asyncio.wait_for(asyncio.gather(*refs), 25)

def await_finalizers(count):
    deadline = time.monotonic() + 25
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.01)

seen = []
gc.collect()
for number in range(300):
    gc.set_threshold(5 + number % 100)
    refs = [square.remote(i) for i in range(20)]
    Finalized(number)
    assert {wait} == [i * i for i in range(20)]
gc.collect()
await_finalizers(300)
print("RESULT", json.dumps(sorted(seen)), flush=True)
"""

TOLD_WAITS = {
    "futures": "[future.result(25) for future in [ref.future() for ref in refs]]",
    "asyncio": "asyncio.run(gathered(refs))",
}


@pytest.mark.parametrize("wait", TOLD_WAITS)
def test_finalizers_get_results_while_the_driver_is_told_of_others(wait):
    assert result_of(TOLD.format(wait=TOLD_WAITS[wait])) == [number**2 for number in range(300)]


#: Workers print more than a pipe holds, and nobody reads the driver's output.
UNREAD = """
import asyncio, sys
import aktis

aktis.init(num_cpus=2)

@aktis.remote
def chatter(number):
    for line in range(3000):
        print("line", number, line, "x" * 80, file=sys.{file})
    return number

@aktis.remote
def square(number):
    return number * number

def say(what):
    with open({path!r}, "a") as said:
        said.write(what + "\\n")

assert aktis.get([chatter.remote(i) for i in range(4)], timeout=25) == [0, 1, 2, 3]
say("printed")
{wait}
say("done")
"""

UNREAD_WAITS = {
    "get": "for n in range(3000): assert aktis.get(square.remote(n), timeout=25) == n * n",
    "wait": "for n in range(3000): assert aktis.wait([square.remote(n)], timeout=25)[1] == []",
    "stream": """
stream = aktis.remote(lambda: iter(range(3000))).options(num_returns="streaming").remote()
assert [aktis.get(ref) for ref in stream] == list(range(3000))
""",
    "asyncio": """
async def main():
    for n in range(3000):
        assert await square.remote(n) == n * n
asyncio.run(main())
""",
}


@pytest.mark.parametrize("file", ["stdout", "stderr"])
@pytest.mark.parametrize("wait", UNREAD_WAITS)
def test_waits_end_although_nobody_reads_what_workers_print(tmp_path, wait, file):
    said = tmp_path / "said"
    with driver(UNREAD.format(path=str(said), wait=UNREAD_WAITS[wait], file=file)) as process:

        def has_said(what):
            if said.exists() and what in said.read_text().split():
                return True
            assert process.poll() is None, process.communicate()
            return False

        until(lambda: has_said("printed"), "results of tasks that print")
        until(lambda: has_said("done"), "results of later tasks")
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, errors
        assert "(chatter pid=" in (output if file == "stdout" else errors)
