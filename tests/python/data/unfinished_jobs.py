"""Jobs in processes of their own that are killed when their ledger tells that something is done."""

import struct
import subprocess
import sys
import time

from waiting import DEADLINE_S


def start(script, *arguments):
    """Starts a job: a script with these arguments."""
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job):
    """Waits for the end of a job that ends well; what it has said."""
    _, err = job.communicate(timeout=DEADLINE_S)
    assert job.returncode == 0, err
    return err


def kill_when(job, is_time):
    """Kills the driver of a job when it is time."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_time() and job.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    job.kill()
    job.communicate()


def tells(out):
    """Whether the ledger says that something is done."""
    ledgers = list(out.glob("_aktis/*.ledger"))
    data = ledgers[0].read_bytes() if ledgers else b""
    first = 8 + struct.unpack("<I", data[:4])[0] if len(data) > 8 else 0
    return len(data) > first


def hidden(out):
    """What lies in a folder of output and is none."""
    return sorted(path.name for path in out.iterdir() if path.name[0] in "._")
