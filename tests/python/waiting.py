"""Waiting for conditions, and drivers in processes of their own."""

import contextlib
import os
import pathlib
import subprocess
import sys
import textwrap
import time

DEADLINE_S = 60


def until(condition, what, deadline_s=DEADLINE_S):
    """Waits for a condition and returns its value; fails with ``what`` when it does not come true in time."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def is_running(pid):
    """Whether the process exists and has not ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def driver(script, *, env=None, **options):
    """A script in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(script, *, deadline_s=DEADLINE_S, **options):
    """Runs a script to its end and returns what it printed."""
    with driver(script, **options) as process:
        output, errors = process.communicate(timeout=deadline_s)
        assert process.returncode == 0, f"exit status {process.returncode}\n{output}{errors}"
        return output
