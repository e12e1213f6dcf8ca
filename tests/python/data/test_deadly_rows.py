"""Rows that end their process or take too long, and what becomes of rows when processes are killed."""

# Options are given by dicts, and functions are wrong on purpose.
# pyright: reportArgumentType=false

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import aktis
import aktis.data
import pytest
from aktis.data import ActorPoolStrategy, DataContext
from aktis.exceptions import TaskError, WorkerCrashedError
from memory_group import limited_memory
from waiting import DEADLINE_S, run, until

from .poisoned import Raises, check, dead_ids, ids_of, read, write_numbers


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write_numbers(tmp_path_factory.mktemp("numbers"))


def segfault():
    ctypes.string_at(0)


def exit_at_once():
    os._exit(3)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    while True:
        time.sleep(60)


class TestRowsThatEndTheirProcess:
    @pytest.mark.parametrize("compute", ["tasks", "actors"])
    @pytest.mark.parametrize("way", [segfault, exit_at_once, killed])
    def test_the_row_is_blamed_and_the_job_goes_on(self, numbers, tmp_path, way, compute):
        bad = [3, 2500]

        class Dies:
            def __call__(self, batch):
                if any(i in bad for i in batch["id"]):
                    way()
                return batch

        called = Dies() if compute == "tasks" else Dies
        pool = {} if compute == "tasks" else {"compute": ActorPoolStrategy(size=2)}
        ds = read(numbers).map_batches(called, batch_size=64, on_error="dead_letter", **pool)
        ds.write_parquet(tmp_path / "out")
        letters = aktis.data.read_dead_letters(tmp_path / "out")
        check(ids_of(aktis.data.read_parquet(tmp_path / "out").take_all()), dead_ids(letters), bad)
        for letter in letters.take_all():
            assert letter["error"] == "WorkerCrashedError"
            # 64, 32, 16, 8, 4, 2, 1.
            assert letter["attempts"] == 7
            assert letter["position"]["row"] == letter["row"]["id"] % 500
        assert "workers died and were replaced" in ds.stats()

    def test_actors_that_die_give_their_slots_back(self):
        class Dies:
            def __call__(self, batch):
                if any(i % 50 == 7 for i in batch["id"]):
                    os._exit(3)
                return batch

        # As many as the session has processors: nothing could begin in the place of one that kept its own.
        pool = ActorPoolStrategy(size=2)
        ds = aktis.data.range(100).map_batches(Dies, batch_size=4, compute=pool, num_cpus=1, on_error="dead_letter")
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [7, 57], rows=100)
        until(lambda: aktis.available_resources().get("CPU") == 2, "all processors are free again")

    def test_alone_in_its_batch_it_is_tried_twice_more(self, tmp_path):
        def dies(row):
            if row["id"] == 5:
                os._exit(1)
            return row

        ds = aktis.data.range(20).map_batches(
            lambda batch: [dies({"id": i}) for i in batch["id"]] and batch, batch_size=1, on_error="dead_letter"
        )
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [5], rows=20)
        assert [row["attempts"] for row in ds.dead_letters().take_all()] == [2]

    def test_functions_over_rows(self):
        def dies(row):
            if row["id"] == 5:
                os._exit(1)
            if row["id"] == 70:
                raise ValueError("seventy")
            return row

        ds = aktis.data.range(100, override_num_blocks=1).map(dies, on_error="dead_letter")
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [5, 70], rows=100)

    def test_row_that_eats_all_memory_is_blamed_for_that(self):
        with limited_memory() as group:
            output = run(
                f"""
                import os, pathlib
                pathlib.Path({str(group / "cgroup.procs")!r}).write_text(str(os.getpid()))
                import aktis.data
                aktis.init(num_cpus=1, object_store_memory=32 << 20, log_to_driver=False)

                def eats(batch):
                    if 7 in batch["id"]:
                        eaten = []
                        while True:
                            eaten.append(bytearray(b"x") * (8 << 20))
                    return batch

                ds = aktis.data.range(20).map_batches(eats, batch_size=4, on_error="dead_letter")
                print(sorted(row["id"] for row in ds.take_all()) == [i for i in range(20) if i != 7])
                for letter in ds.dead_letters().take_all():
                    print(letter["row"]["id"], letter["error"], letter["message"])
                """
            )
        assert output.startswith("True\n7 OutOfMemoryError "), output
        assert "memory ran out" in output, output

    def test_deaths_that_no_row_explains_still_end_the_job(self):
        def dies(batch):
            os._exit(1)

        ds = aktis.data.range(10).map_batches(dies)
        ds = ds.map_batches(lambda batch: batch, on_error="skip")
        with pytest.raises(WorkerCrashedError, match="4 worker processes died"):
            ds.take_all()


#: Much longer than any other call takes on a busy machine, the first one of a process included.
TIMEOUT_S = 1.5


class TestRowsThatTakeTooLong:
    @pytest.mark.parametrize("compute", ["tasks", "actors"])
    def test_the_row_is_found_and_the_job_goes_on(self, tmp_path, compute):
        class Hangs:
            def __call__(self, batch):
                if 21 in batch["id"]:
                    hang()
                return batch

        called = Hangs() if compute == "tasks" else Hangs
        pool = {} if compute == "tasks" else {"compute": ActorPoolStrategy(size=1)}
        ds = aktis.data.range(64, override_num_blocks=8)
        ds = ds.map_batches(called, batch_size=4, on_error="dead_letter", timeout_s=TIMEOUT_S, **pool)
        ds.write_parquet(tmp_path / "out")
        letters = aktis.data.read_dead_letters(tmp_path / "out")
        check(ids_of(aktis.data.read_parquet(tmp_path / "out").take_all()), dead_ids(letters), [21], rows=64)
        (letter,) = letters.take_all()
        # 4, 2, 1.
        assert (letter["error"], letter["attempts"]) == ("TimeoutError", 3)
        assert "timeout_s=1.5" in letter["message"]

    def test_without_leave_to_leave_rows_out_the_job_ends(self):
        def hangs(batch):
            if 3 in batch["id"]:
                hang()
            return batch

        with pytest.raises(TaskError, match=r"longer than timeout_s=1.5, for a batch of 10 rows.*on_error"):
            aktis.data.range(10, override_num_blocks=1).map_batches(hangs, timeout_s=TIMEOUT_S).take_all()

    def test_async_functions_and_threads(self):
        async def waits(row):
            if row["id"] == 9:
                await asyncio.sleep(3600)
            return row

        ds = aktis.data.range(16, override_num_blocks=1).map(waits, on_error="dead_letter", timeout_s=TIMEOUT_S)
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [9], rows=16)

    def test_calls_that_are_quick_enough_are_let_be(self):
        def slow(batch):
            time.sleep(0.2)
            return batch

        # All calls together take longer than one may.
        ds = aktis.data.range(10, override_num_blocks=1)
        ds = ds.map_batches(slow, batch_size=1, on_error="skip", timeout_s=TIMEOUT_S)
        assert ds.count() == 10


class TestFaultsMeanwhile:
    def test_workers_that_are_killed_lose_no_row_and_tell_none_twice(self, numbers, tmp_path):
        (tmp_path / "pids").mkdir()

        class Works:
            def __init__(self):
                (tmp_path / "pids" / str(os.getpid())).touch()

            def __call__(self, batch):
                time.sleep(0.01)
                return Raises()(batch)

        ds = read(numbers).map_batches(Works, batch_size=16, compute=ActorPoolStrategy(size=2), on_error="dead_letter")
        killed = set()
        stop = threading.Event()

        def kill():
            while len(killed) < 6 and not stop.wait(0.4):
                for name in os.listdir(tmp_path / "pids"):
                    if name not in killed:
                        killed.add(name)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(name), signal.SIGKILL)
                        break

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            ds.write_parquet(tmp_path / "out")
        finally:
            stop.set()
            thread.join()
        assert killed
        letters = aktis.data.read_dead_letters(tmp_path / "out")
        check(ids_of(aktis.data.read_parquet(tmp_path / "out").take_all()), dead_ids(letters))
        assert {row["error"] for row in letters.take_all()} == {"ValueError"}

    def test_row_that_fails_only_once_stays_dead_when_its_worker_dies_later(self, tmp_path, monkeypatch):
        """What was told is not taken back: blocks that were delivered have the rows that they had."""
        monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 1 << 20)

        def flaky(batch):
            ids = batch["id"].tolist()
            if 5 in ids and not (tmp_path / "failed").exists():
                if len(ids) == 1:
                    (tmp_path / "failed").touch()
                raise ValueError("once")
            if 900 in ids and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os._exit(1)
            return {"id": batch["id"], "data": [b"x" * 20_000] * len(ids)}

        ds = aktis.data.range(1000, override_num_blocks=1).map_batches(flaky, batch_size=10, on_error="dead_letter")
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()), [5], rows=1000)
        assert "1 workers died" in ds.stats()


#: The job of a process of its own, which cannot end before it is let go on.
JOB = """
import os, sys, time
import aktis.data

noted, out, go = sys.argv[1:]

def work(batch):
    with open(noted, "a") as file:
        file.write("x")
    while 2990 in batch["id"] and not os.path.exists(go):
        time.sleep(0.01)
    if 1500 in batch["id"]:
        raise ValueError("never")
    return batch

aktis.init(num_cpus=2)
ds = aktis.data.range(3000).map_batches(work, batch_size=10, on_error="dead_letter")
ds.write_parquet(out, mode="append")
"""


class TestUnfinishedJobs:
    def test_killed_job_tells_no_row_twice(self, tmp_path):
        script, noted, out, go = (tmp_path / name for name in ("job.py", "noted", "out", "go"))
        script.write_text(JOB)
        noted.touch()
        for calls in (100, 150):
            before = noted.stat().st_size
            job = subprocess.Popen([sys.executable, script, noted, out, go], stderr=subprocess.PIPE)
            deadline = time.monotonic() + DEADLINE_S
            while noted.stat().st_size < before + calls:
                assert time.monotonic() < deadline and job.poll() is None
                time.sleep(0.005)
            job.kill()
            job.communicate()
            assert not [name for name in os.listdir(out) if name[0] not in "._"]
        go.touch()
        job = subprocess.run(
            [sys.executable, script, noted, out, go], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert job.returncode == 0, job.stderr
        letters = aktis.data.read_dead_letters(out)
        check(ids_of(aktis.data.read_parquet(out).take_all()), dead_ids(letters), [1500], rows=3000)
        assert [name for name in os.listdir(out) if name[0] in "._"] == ["_dead_letters"]
