"""Jobs in processes of their own that are killed when their ledger tells that something is done.

They cannot end before, nor get so far that nothing is left for the next one, however late the test looks: functions of theirs wait at a
gate, with all rows from one on or when so many calls were made, until the test lets them go on.
"""

import os
import struct
import subprocess
import sys
import time

from waiting import DEADLINE_S

#: The beginning of each script. A function of the job calls ``pass_gate`` with each of its batches, or ``pass_gate_after`` with the file in
#: which all of them note their calls, a line each.
GATE = """
import os, time

gate = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gate")

def pass_gate(batch):
    while max(batch["id"]) >= int(open(gate).read()):
        time.sleep(0.01)

def pass_gate_after(noted):
    while os.path.exists(noted) and open(noted).read().count("\\n") >= int(open(gate).read()):
        time.sleep(0.01)
"""


def let_go(script, below):
    """Jobs of this script go on with rows whose `id` is below a number, or while fewer calls than that are noted."""
    new = script.with_name("gate.new")
    new.write_text(str(below))
    os.replace(new, script.with_name("gate"))


def start(script, *arguments, below):
    """Starts a job: a script with these arguments, which goes on as far as :func:`let_go` says."""
    let_go(script, below)
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job):
    """Lets a job go on to its end, which is a good one; what it has said."""
    return ended(job, 0)


def ended(job, status):
    """Lets a job go on to its end, which has this status; what it has said."""
    let_go(job.args[1], 1 << 62)
    _, err = job.communicate(timeout=2 * DEADLINE_S)
    assert job.returncode == status, err
    return err


def kill_when(job, is_time):
    """Kills the driver of a job when it is time."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_time():
        assert job.poll() is None, "it ended before it was killed: " + job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    job.kill()
    job.communicate()


def _records(out):
    """The records of the ledger in a folder of output, but for the first."""
    ledgers = list(out.glob("_aktis/*.ledger"))
    data, records = ledgers[0].read_bytes() if ledgers else b"", []
    while len(data) >= 8:
        length = struct.unpack("<I", data[:4])[0]
        if len(data) < 8 + length:
            break
        records.append(data[8 : 8 + length])
        data = data[8 + length :]
    return records[1:]


def tells(out):
    """Whether the ledger says that something is done."""
    return bool(_records(out))


def _varints(data):
    """The numbers that are packed there."""
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number, shift = 0, 0


def _fields(message):
    """Fields of a message, of which there are numbers and what has a length: each with its number."""
    at = 0

    def varint():
        nonlocal at
        end = at
        while message[end] >= 0x80:
            end += 1
        (number,) = _varints(message[at : end + 1])
        at = end + 1
        return number

    while at < len(message):
        key, value = varint(), varint()
        if key & 7 == 2:
            at, value = at + value, message[at : at + value]
        yield key >> 3, value


def told_rows(out, rows_of_input):
    """How many rows of the source the ledger says are done (`docs/ledger.md`), of inputs of so many rows."""
    done = set()
    for record in _records(out):
        for of_done, value in (field for kind, entry in _fields(record) if kind == 2 for field in _fields(entry)):
            if of_done == 1:
                ends = list(_varints(value))
                inputs = (
                    number for begin, end in zip(ends[::2], ends[1::2], strict=True) for number in range(begin, end)
                )
                done.update((number, row) for number in inputs for row in range(rows_of_input))
            elif of_done == 4:
                for span in (dict(_fields(part)) for of_part, part in _fields(value) if of_part == 2):
                    rows = range(span.get(2, 0), min(span[3], rows_of_input))
                    done.update((span.get(1, 0), row) for row in rows)
    return len(done)


def hidden(out):
    """What lies in a folder of output and is none."""
    return sorted(path.name for path in out.iterdir() if path.name[0] in "._")
