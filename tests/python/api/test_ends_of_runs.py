"""Runs of datasets that are interrupted, or take too long: they end at once, and leave nothing."""

import os
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import aktis
import aktis.data
import pytest
from aktis.data import DataContext, _running

DEADLINE_S = 100

SCRIPT = """
import os, pathlib, signal, threading, time
import aktis, aktis.data
from aktis.util import list_named_actors

signal.signal(signal.SIGINT, signal.default_int_handler)
aktis.init(num_cpus=2, log_to_driver=False)
begun = pathlib.Path({folder!r}) / "begun"

def begins(batch):
    begun.touch()
    return batch

def interrupt():
    while not begun.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
ds = aktis.data.range(100, override_num_blocks=4).map_batches(begins, batch_size=5)
{function}
try:
    {run}
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert not [one for one in list_named_actors(all_namespaces=True) if one["name"].startswith("rate_limit")]
deadline = time.monotonic() + 60
while aktis.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
    time.sleep(0.05)
assert aktis.available_resources()["CPU"] == 2
assert aktis.data.range(3).map(lambda row: row).count() == 3
print("usable", flush=True)
"""
WAITS = "ds = ds.map(lambda row: row, rate_limit=0.001)"
SLEEPS = "ds = ds.map(lambda row: time.sleep(1000))"
SPINS = "import hashlib; ds = ds.map(lambda row: {'x': hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)})"
ASYNC = """
async def sleeps(row):
    import asyncio
    await asyncio.sleep(1000)
ds = ds.map(sleeps)
"""


TAKE, WRITE = "ds.take_all()", "ds.write_parquet(str(begun) + '-out')"


@pytest.mark.parametrize(
    ("function", "run"), [(WAITS, WRITE), (SLEEPS, TAKE), (SPINS, WRITE), (ASYNC, TAKE)],
    ids=["waits", "sleeps", "native", "async"],
)  # fmt: skip
def test_interrupted_run_ends_and_leaves_nothing(tmp_path, function, run):
    script = textwrap.dedent(SCRIPT).format(folder=str(tmp_path), function=function, run=run)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted", "usable"]


@pytest.fixture
def session():
    aktis.shutdown()
    aktis.init(num_cpus=2, log_to_driver=False)
    yield
    DataContext.get_current().time_limit_s = None
    aktis.shutdown()


def test_job_that_takes_too_long_says_how_far_it_was_and_goes_on_there(session, tmp_path, monkeypatch):
    calls, out = tmp_path / "calls", tmp_path / "out"
    calls.mkdir()

    def clock():
        """Goes on when a part is done, however long that has taken."""
        return time.monotonic() + 10_000 * (len(list(out.glob(".unfinished-*/*.parquet"))) >= 8)

    def slow(row):
        (calls / f"{row['id']}-{time.time()}").touch()
        time.sleep(0.1)
        return row

    ds = aktis.data.range(60, override_num_blocks=30).map(slow)
    DataContext.get_current().time_limit_s = 1000.5
    monkeypatch.setattr(_running, "time", SimpleNamespace(monotonic=clock))
    with pytest.raises(
        TimeoutError, match=r"time_limit_s = 1000.5 seconds. It was so far: Read->Map\(slow\).*known inputs"
    ) as caught:
        ds.write_parquet(out)
    assert "what is done so far is kept" in "".join(caught.value.__notes__)
    assert not list(out.glob("*.parquet"))
    monkeypatch.undo()
    ds.write_parquet(out)
    assert aktis.data.read_parquet(out).count() == 60
    # Sixteen were made for the eight inputs that were done.
    assert len(list(calls.iterdir())) < 60 + 14


def test_time_that_nobody_has_is_refused():
    with pytest.raises(ValueError, match="DataContext.time_limit_s must be a number of seconds"):
        DataContext.get_current().time_limit_s = 0
