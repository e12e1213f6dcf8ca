"""Random pipelines through which flows several times what their control group may hold: all end, with the right rows, and nobody is killed.

``AKTIS_TEST_PIPELINES=500`` runs that many, from the seed ``AKTIS_TEST_PIPELINE`` on; ``-s`` prints what each held at most. ``make soak`` runs a hundred.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from memory_group import held_bytes, kills, limited_memory

from .memory_pipelines import check, expected, pipeline, read_numbers, write_source

PROGRAM = pathlib.Path(__file__).with_name("memory_program.py")
LIMIT_BYTES = 512 << 20
PIPELINES = int(os.environ.get("AKTIS_TEST_PIPELINES", "0"))
FIRST = int(os.environ.get("AKTIS_TEST_PIPELINE", "0"))
#: Where no number is given: rows that grow a hundredfold with no word of how many at once, long rows in files, many workers.
SEEDS = range(FIRST, FIRST + PIPELINES) if PIPELINES else (111, 24, 13)
#: How long one may take on a slow machine.
PATIENCE_S = 400


@pytest.fixture
def deadline():
    """In place of the one for all tests: 500 pipelines take longer."""

    def interrupt(_signal, _frame):
        raise TimeoutError("a pipeline takes too long")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(PATIENCE_S + 30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


class Run:
    """A pipeline in a control group, and what was seen of it from outside."""

    def __init__(self, made, folder):
        self.made, self.folder = made, folder
        self.peak_bytes = self.spilled_bytes = self.kills = 0

    def run(self):
        if self.made.source == "parquet":
            write_source(self.made, self.folder)
        spill = self.folder / "spill"
        environment = {**os.environ, "AKTIS_SPILL_DIR": str(spill)}
        with limited_memory(LIMIT_BYTES) as group:
            command = [sys.executable, "-W", "ignore", str(PROGRAM), str(self.made.seed), str(self.folder), str(group)]
            with (self.folder / "output").open("w+") as output, (self.folder / "errors").open("w+") as errors:
                began = time.monotonic()
                process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
                try:
                    while process.poll() is None:
                        assert time.monotonic() < began + PATIENCE_S, f"{self.made} did not end in {PATIENCE_S} s"
                        self._look(group, spill)
                        time.sleep(0.02)
                finally:
                    process.kill()
                    process.wait()
                self.seconds = time.monotonic() - began
                self.kills = kills(group)
        said = (self.folder / "output").read_text()
        errors = (self.folder / "errors").read_text()
        assert process.returncode == 0, (
            f"{self.made} failed after {self.seconds:.1f} s:\n{said}{errors[-4000:]}\n{self}"
        )
        return json.loads(said)["count"]

    def _look(self, group, spill):
        self.peak_bytes = max(self.peak_bytes, held_bytes(group))
        try:
            found = sum(path.stat().st_size for path in spill.rglob("*") if path.is_file())
        except OSError:
            return
        self.spilled_bytes = max(self.spilled_bytes, found)

    def __str__(self):
        spilled = f", {self.spilled_bytes >> 20} MiB on the disk" if self.spilled_bytes else ""
        killed = f", {self.kills} KILLED" if self.kills else ""
        return f"{self.seconds:.1f} s, at most {self.peak_bytes >> 20} MiB{spilled}{killed}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("deadline")
def test_pipeline_ends_within_its_control_group(seed, tmp_path):
    made = pipeline(seed)
    run = Run(made, tmp_path)
    count = run.run()
    print(made, run)
    if made.sink == "count":
        check(made, count)
    elif made.sink == "write_parquet":
        _, length = expected(made)
        check(made, read_numbers(tmp_path / "out", length))
    else:
        found = np.load(tmp_path / "found.npz")
        check(made, {name: found[name] for name in found.files})
    assert run.kills == 0, f"{made}: {run}"
    assert run.peak_bytes <= LIMIT_BYTES
    if made.is_map_only:
        assert run.spilled_bytes == 0, f"{made}: {run}"
