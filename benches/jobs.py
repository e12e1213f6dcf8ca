"""Runs a measured script as a process of its own, with a time limit, and reads the JSON in its last line."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time

import ray_env


class JobFailed(Exception):
    """The process failed, hung or printed no result."""


def run(command, limit_s):
    """Returns the result of the script and the seconds of the whole process, start and end included."""
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command], stdout=printed, stderr=errors, env=ray_env.environment(),
            start_new_session=True,
        )  # fmt: skip
        try:
            status = child.wait(limit_s)
        except subprocess.TimeoutExpired as expired:
            raise JobFailed(f"ran longer than {limit_s} s") from expired
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        seconds = time.perf_counter() - start
        lines, complaints = _lines(printed), _lines(errors)
    if status != 0 or not lines:
        raise JobFailed(f"exit status {status}: {(complaints or lines or ['no message'])[-1][:400]}")
    return json.loads(lines[-1]), seconds


def _lines(file):
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()
