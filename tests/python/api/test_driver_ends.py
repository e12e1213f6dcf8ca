"""Drivers that end while threads of their runtime, or of their own, are at work: with exit status 0, and no crash."""

import pytest
from waiting import run

#: At its end the driver is far behind with printing: for seconds, and with a write every few milliseconds.
ENDING = """
import sys, time
import aktis

aktis.init(num_cpus=4)

class Slow:
    def isatty(self):
        return False

    def flush(self):
        pass

    def write(self, text):
        time.sleep(0.01)

sys.stdout = Slow()

@aktis.remote
def chatter():
    for _ in range(300):
        print("a line")
        time.sleep(0.005)

aktis.get([chatter.remote() for _ in range(4)], timeout=25)
{end}
"""

ENDS = {"end of script": "", "shutdown": "aktis.shutdown()"}


@pytest.mark.parametrize("end", ENDS)
def test_a_driver_ends_well_while_it_prints_what_workers_print(end):
    run(ENDING.format(end=ENDS[end]))


def test_a_driver_ends_well_while_futures_are_told_their_results():
    script = """
        import aktis
        aktis.init(num_cpus=2)

        @aktis.remote
        def square(number):
            return number * number

        futures = [square.remote(number).future() for number in range(500)]
        assert futures[0].result(25) == 0
    """
    for _ in range(4):
        run(script)


@pytest.mark.parametrize("wait", ["aktis.get(ref)", "aktis.wait([ref])", "next(stream)"])
def test_a_driver_ends_well_while_a_daemon_thread_waits(wait):
    script = f"""
        import asyncio, threading, time, aktis
        aktis.init(num_cpus=1)

        @aktis.remote(num_cpus=0)
        class Never:
            async def come(self):
                await asyncio.Event().wait()

            async def items(self):
                await asyncio.Event().wait()
                yield 1

        never = Never.remote()
        ref, stream = never.come.remote(), never.items.remote()

        def wait():
            while True:
                try:
                    {wait}
                except aktis.exceptions.AktisError:
                    pass

        for _ in range(4):
            threading.Thread(target=wait, daemon=True).start()
        assert aktis.get(aktis.remote(lambda: 1).remote(), timeout=25) == 1
    """
    for _ in range(4):
        run(script)


@pytest.mark.parametrize("threads", ["", "threading.Thread(target=lambda: aktis.get(never), daemon=True).start()"])
@pytest.mark.parametrize("end", ENDS)
def test_a_driver_prints_before_its_end_what_workers_had_printed(threads, end):
    """Also when its output is slow and calls the session itself, and when its own threads wait meanwhile."""
    script = f"""
        import sys, threading, time
        import aktis

        aktis.init(num_cpus=2)

        class Slow:
            def isatty(self):
                return False

            def flush(self):
                sys.__stdout__.flush()

            def write(self, text):
                time.sleep(aktis.get(aktis.put(0.005)))
                return sys.__stdout__.write(text)

        sys.stdout = Slow()

        @aktis.remote(num_cpus=0)
        class Never:
            def come(self):
                time.sleep(600)

        actor = Never.remote()
        never = actor.come.remote()
        {threads}

        @aktis.remote
        def chatter():
            for number in range(100):
                print("line", number)
            print("no end of line", end="", flush=True)

        aktis.get(chatter.remote(), timeout=25)
        {ENDS[end]}
    """
    printed = run(script)
    assert [number for number in range(100) if f"line {number}\n" not in printed] == []
    assert "no end of line" in printed
