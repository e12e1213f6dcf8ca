"""How long after a `kill -9` a caller knows that its callee is gone. Prints one JSON object: milliseconds by situation.

python death_job.py --times 20
"""

import argparse
import json
import os
import pathlib
import signal
import tempfile
import threading
import time

import aktis

IN_FLIGHT = 1000
#: Until the call runs, and the caller waits.
DELAY_S = 0.1


@aktis.remote(max_retries=0)
def forever(pid_path):
    pathlib.Path(pid_path + ".new").write_text(str(os.getpid()))
    os.rename(pid_path + ".new", pid_path)
    time.sleep(1e6)


@aktis.remote(num_cpus=0)
class Callee:
    def pid(self):
        return os.getpid()

    def forever(self):
        time.sleep(1e6)


def start_task():
    """The reference of a task that runs, and the pid of its process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pid")
        ref = forever.remote(path)
        while not os.path.exists(path):
            time.sleep(0.001)
        return [ref], int(pathlib.Path(path).read_text())


def start_calls(count):
    """References of calls of one actor, none of which ends, and the pid of its process."""
    actor = Callee.remote()
    pid = aktis.get(actor.pid.remote())
    return [actor.forever.remote() for _ in range(count)], pid


def have_all(refs):
    """Waits until there is an exception for each of them."""
    aktis.wait(refs, num_returns=len(refs))
    for ref in refs:
        try:
            aktis.get(ref)
        except (aktis.exceptions.WorkerCrashedError, aktis.exceptions.ActorDiedError):
            continue
        raise AssertionError("a call of a killed process has a result")


def get_one(refs):
    """Waits in `get` for the exception."""
    try:
        aktis.get(refs[0])
    except (aktis.exceptions.WorkerCrashedError, aktis.exceptions.ActorDiedError):
        return
    raise AssertionError("a call of a killed process has a result")


def look_now_and_then(refs):
    """Does not wait: sleeps, and asks."""
    while not aktis.wait(refs, timeout=0)[0]:
        time.sleep(0.001)


def milliseconds(start, wait):
    """From the kill until `wait` has returned."""
    refs, pid = start()
    killed = []

    def kill():
        killed.append(time.monotonic_ns())
        os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(DELAY_S, kill)
    timer.start()
    wait(refs)
    at = time.monotonic_ns()
    timer.join()
    return (at - killed[0]) / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    aktis.init(num_cpus=1, log_to_driver=False)
    situations = {
        "worker with a task, get waits": (start_task, get_one),
        "worker with a task, looked at every ms": (start_task, look_now_and_then),
        "actor with a call, get waits": (lambda: start_calls(1), get_one),
        "actor with a call, looked at every ms": (lambda: start_calls(1), look_now_and_then),
        "actor with 1000 calls, all have failed": (lambda: start_calls(IN_FLIGHT), have_all),
    }
    result = {name: [milliseconds(start, wait) for _ in range(times)] for name, (start, wait) in situations.items()}
    aktis.shutdown()
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
