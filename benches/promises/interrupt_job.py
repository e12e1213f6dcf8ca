"""How long after a SIGINT the exception is there, in programs that wait. Prints one JSON object: milliseconds by situation.

python interrupt_job.py --times 20
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import aktis

#: Tells the time at which it has sent a signal to its parent; a line of input is how long to wait before.
SENDER = """
import os, signal, sys, time
for line in sys.stdin:
    time.sleep(float(line))
    at = time.monotonic_ns()
    os.kill(os.getppid(), signal.SIGINT)
    print(at, flush=True)
"""
MANY = 10_000
#: Longer than it takes to be waiting, and than waits poll.
DELAYS_S = (0.1, 0.2)
#: An interrupt that is not there by then is lost, and counts with the time until then.
LOST_S = 10


@aktis.remote(max_retries=0)
def forever():
    time.sleep(1e6)


@aktis.remote(num_cpus=0)
class Printer:
    def print_on(self):
        while True:
            for number in range(100):
                print(number, "of the lines of a worker that prints a lot" * 2)
            time.sleep(0.001)


def milliseconds(sender, wait):
    """From the signal until this process has the exception."""
    sender.stdin.write(f"{random.uniform(*DELAYS_S)}\n")
    sender.stdin.flush()
    with contextlib.suppress(KeyboardInterrupt, aktis.exceptions.GetTimeoutError):
        wait()
    at = time.monotonic_ns()
    return (at - int(sender.stdout.readline())) / 1e6


@contextlib.contextmanager
def nothing_else():
    yield


@contextlib.contextmanager
def another_thread_leads(ref):
    """A thread that waits first, and so polls for all."""
    is_over = threading.Event()

    def lead():
        while not is_over.is_set():
            aktis.wait([ref], timeout=1)

    thread = threading.Thread(target=lead)
    thread.start()
    time.sleep(0.1)
    yield
    is_over.set()
    thread.join()


@contextlib.contextmanager
def workers_print():
    """A worker prints as fast as it can, and this process repeats its lines (to nowhere)."""
    printer = Printer.remote()
    printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    printer.print_on.remote()
    time.sleep(0.5)
    yield
    aktis.kill(printer)
    sys.stdout = printed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    # A process that a shell started in the background inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-c", SENDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        aktis.init(num_cpus=2)
        refs = [forever.remote() for _ in range(MANY)]

        def get_one():
            aktis.get(refs[0], timeout=LOST_S)

        situations = {
            "get of one task": (nothing_else, get_one),
            "get of 10 000 references": (nothing_else, lambda: aktis.get(refs, timeout=LOST_S)),
            "wait for one task": (nothing_else, lambda: aktis.wait(refs[:1], timeout=LOST_S)),
            "wait for 10 000 references": (nothing_else, lambda: aktis.wait(refs, num_returns=MANY, timeout=LOST_S)),
            "get while another thread leads": (lambda: another_thread_leads(refs[1]), get_one),
            "get while a worker prints a lot": (workers_print, get_one),
        }
        result = {}
        for name, (around, wait) in situations.items():
            with around():
                result[name] = [milliseconds(sender, wait) for _ in range(times)]
        sender.stdin.close()
    aktis.shutdown()
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
