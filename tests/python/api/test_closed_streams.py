"""Programs that are started without standard streams, as some supervisors do: the system gives the lowest free number to whatever is
opened next, and what anybody prints must not go into a socket of the session."""

import json
import subprocess
import sys

import pytest
from waiting import DEADLINE_S

WITHOUT_STREAMS = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

DRIVER = """
import json, os, sys
import aktis

@aktis.remote
def work(data):
    print("said by a worker", flush=True)
    return len(data)

assert sys.stdout is None
aktis.init(num_cpus=1)
streams = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
for number in (1, 2):
    # As a library in C does.
    os.write(number, b"printed" * 1000)
results = [aktis.get(work.remote(bytes(size)), timeout=60) for size in (10, 1 << 20)]
aktis.shutdown()
with open(sys.argv[1], "w") as said:
    json.dump([streams, results], said)
"""


@pytest.fixture
def said(tmp_path):
    return tmp_path / "said.json"


def test_session_of_a_program_without_standard_streams_works_and_what_is_printed_goes_nowhere(tmp_path, said):
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    command = [*WITHOUT_STREAMS, sys.executable, str(program), str(said)]
    subprocess.run(command, check=True, timeout=DEADLINE_S)
    assert json.loads(said.read_text()) == [["/dev/null"] * 3, [10, 1 << 20]]
