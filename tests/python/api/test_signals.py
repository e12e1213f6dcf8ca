"""Signals while the main thread waits: the handler's exception comes out of that wait, once, and out of no other."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aktis
import pytest
from aktis import exceptions
from waiting import DEADLINE_S, driver, is_running, run, until

pytestmark = pytest.mark.usefixtures("session")


class Told(Exception):
    """What a handler raises."""


@aktis.remote(num_cpus=0)
class Gate:
    def __init__(self):
        self.event = asyncio.Event()
        self.waiting = 0

    async def wait(self, value=None):
        self.waiting += 1
        await self.event.wait()
        return value

    async def items(self, value):
        yield value
        await self.event.wait()
        yield value + 1

    async def open(self):
        self.event.set()

    async def count(self):
        return self.waiting


@contextlib.contextmanager
def signal_soon(number, error, after_s=0.2, begun=None):
    """While the block runs, this process gets a signal whose handler raises ``error``: a while after ``begun`` is set."""

    def raise_it(*_):
        raise error

    def send():
        if begun is None or begun.wait(DEADLINE_S):
            time.sleep(after_s)
            os.kill(os.getpid(), number)

    handler = signal.default_int_handler if error is KeyboardInterrupt else raise_it
    previous = signal.signal(number, handler)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        yield
    finally:
        sender.join()
        signal.signal(number, previous)


def raised_by(work):
    """What comes out of it. A stray ``KeyboardInterrupt`` would end the whole test run."""
    try:
        return f"nothing, but {work()!r}"
    except BaseException as error:  # noqa: BLE001 - that is what is asked
        return error


def next_item(gate):
    stream = gate.items.remote(1)
    assert aktis.get(next(stream), timeout=DEADLINE_S) == 1
    return lambda: next(stream)


def next_within(gate):
    stream = gate.items.remote(1)
    aktis.get(next(stream), timeout=DEADLINE_S)
    return lambda: stream.next_within(DEADLINE_S)


def all_items(gate):
    stream = gate.items.remote(1)
    return lambda: list(stream)


WAITS = {
    "get": lambda gate: lambda: aktis.get(gate.wait.remote()),
    "get with timeout": lambda gate: lambda: aktis.get([gate.wait.remote()], timeout=DEADLINE_S),
    "wait": lambda gate: lambda: aktis.wait([gate.wait.remote()]),
    "next": next_item,
    "next within": next_within,
    "list of a stream": all_items,
}


@pytest.mark.parametrize("way", WAITS)
def test_the_exception_of_a_handler_comes_out_of_the_wait_and_of_no_later_one(way):
    gate = Gate.remote()
    wait = WAITS[way](gate)
    told = Told("once")
    with signal_soon(signal.SIGUSR1, told):
        assert raised_by(wait) is told
    # A stale exception would come out of one of these.
    later, stream = gate.wait.remote(), gate.items.remote(5)
    assert aktis.get(next(stream), timeout=DEADLINE_S) == 5
    assert isinstance(raised_by(lambda: aktis.get(later, timeout=0.05)), exceptions.GetTimeoutError)
    assert isinstance(raised_by(lambda: stream.next_within(0.05)), exceptions.GetTimeoutError)
    assert isinstance(raised_by(lambda: aktis.get([later], timeout=0.05)), exceptions.GetTimeoutError)
    aktis.get(gate.open.remote(), timeout=DEADLINE_S)
    assert aktis.get(next(stream), timeout=DEADLINE_S) == 6
    assert aktis.get(later, timeout=DEADLINE_S) is None


def test_sigterm_that_raises_system_exit_ends_the_driver_and_its_workers():
    script = """
        import os, signal, sys, time
        import aktis
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        aktis.init(num_cpus=1)

        @aktis.remote
        def pid():
            return os.getpid()

        @aktis.remote
        def sleep():
            time.sleep(1000)

        print(aktis.get(pid.remote()), flush=True)
        aktis.get(sleep.remote())
    """
    with driver(script) as process:
        worker = process.stdout.readline().strip()
        time.sleep(0.3)  # let get() begin to wait: there is nothing to observe that says so
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 7, errors
        until(lambda: not is_running(worker), "the worker's end")


#: Each write to standard output takes a while, so that the driver spends its time in printing what workers print.
CHATTY = """
import os, signal, sys, threading, time
import aktis

signal.signal(signal.SIGINT, signal.default_int_handler)
aktis.init(num_cpus=2)

class Slow:
    def isatty(self): return False
    def flush(self): pass
    def write(self, text): time.sleep(0.05)

out, sys.stdout = sys.stdout, Slow()

@aktis.remote
def chatter(path):
    while not os.path.exists(path):
        print("and another line")
        time.sleep(0.002)

@aktis.remote(num_cpus=0)
class Never:
    async def come(self):
        import asyncio
        await asyncio.Event().wait()

never = Never.remote()
ref = never.come.remote()
talking = chatter.remote(PATH)
raised = 0
for number in range(15):
    timer = threading.Timer(0.03 + 0.005 * number, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        aktis.get(ref, timeout=50)
    except KeyboardInterrupt:
        raised += 1
    except aktis.exceptions.GetTimeoutError:
        pass
    timer.join()
open(PATH, "w").close()
aktis.get(talking, timeout=50)
print(raised, file=out, flush=True)
os._exit(0)  # how drivers end is asked elsewhere
"""


def test_every_control_c_is_raised_while_workers_print(tmp_path):
    output = run(CHATTY.replace("PATH", repr(str(tmp_path / "stop"))))
    assert output.split() == ["15"]


@pytest.mark.parametrize("after_s", [0, 0.05, 0.1, 0.25])
def test_an_interrupt_of_the_main_thread_harms_no_other_that_waits(after_s):
    gate = Gate.remote()

    def wait(number):
        return aktis.get(gate.wait.remote(number), timeout=DEADLINE_S)

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(wait, number) for number in range(4)]
        until(lambda: aktis.get(gate.count.remote(), timeout=DEADLINE_S) == 4, "four threads that wait")
        with pytest.raises(KeyboardInterrupt), signal_soon(signal.SIGINT, KeyboardInterrupt, after_s):
            aktis.get(gate.wait.remote())
        gate.open.remote()
        assert [thread.result(timeout=DEADLINE_S) for thread in waiting] == [0, 1, 2, 3]


def test_an_interrupt_ends_a_program_of_asyncio_that_awaits_a_reference():
    gate, begun, ended = Gate.remote(), threading.Event(), []

    async def main():
        begun.set()
        try:
            await gate.wait.remote(1)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt), signal_soon(signal.SIGINT, KeyboardInterrupt, begun=begun):
        asyncio.run(main())
    assert ended == ["cancelled"]

    async def value(ref):
        return await ref

    later = gate.wait.remote(2)
    gate.open.remote()
    assert asyncio.run(asyncio.wait_for(value(later), DEADLINE_S)) == 2


def test_an_interrupt_ends_a_program_of_asyncio_that_reads_a_stream():
    gate, begun, items = Gate.remote(), threading.Event(), []

    async def main():
        async for ref in gate.items.remote(1):
            items.append(await ref)
            begun.set()

    with pytest.raises(KeyboardInterrupt), signal_soon(signal.SIGINT, KeyboardInterrupt, begun=begun):
        asyncio.run(main())
    assert items == [1]
