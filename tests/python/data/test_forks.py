"""What a plan says twice is done once, and what runs in one worker survives its death."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import time

import aktis.data
import pytest


@pytest.fixture
def counted(tmp_path):
    """A dataset of 100 rows behind a function, and how many rows the function got so far."""
    log = tmp_path / "calls"

    def double(batch):
        with open(log, "a") as file:
            file.write(f"{len(batch['id'])}\n")
        return {"id": batch["id"], "twice": batch["id"] * 2}

    ds = aktis.data.range(100).map_batches(double, batch_size=10)
    return ds, lambda: sum(int(line) for line in log.read_text().split())


class TestForks:
    def test_function_before_two_branches_runs_once(self, counted):
        ds, rows = counted
        both = ds.filter(expr="twice < 20").union(ds.filter(expr="twice >= 180"))
        assert "once for 1 and 2" in both.explain()
        assert sorted(row["id"] for row in both.take_all()) == [*range(10), *range(90, 100)]
        assert rows() == 100

    def test_dataset_that_is_joined_with_itself_is_computed_once(self, counted):
        ds, rows = counted
        joined = ds.join(ds, "inner", 3, on=("id",), right_suffix="_r")
        assert sorted((row["id"], row["twice_r"]) for row in joined.take_all()) == [(n, 2 * n) for n in range(100)]
        assert rows() == 100

    def test_query_that_names_a_table_twice_computes_it_once(self, counted):
        ds, rows = counted
        ds.schema()
        before = rows()
        query = "with t as (select id % 5 as k, max(twice) as m from d group by id % 5) select x.k, y.m from t x join t y on x.k = y.k"
        found = aktis.data.sql(query, d=ds).take_all()
        assert sorted((row["k"], row["m"]) for row in found) == [(k, 190 + 2 * k) for k in range(5)]
        assert rows() - before == 100

    def test_worker_that_dies_before_a_fork_loses_no_row(self, tmp_path):
        marker = tmp_path / "died"

        def die_once(batch):
            if 50 in batch["id"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

        ds = aktis.data.range(1000).map_batches(die_once, batch_size=100)
        joined = ds.join(ds.filter(expr="id % 2 = 0"), "left_outer", 4, on=("id",), right_suffix="_r")
        assert sorted(row["id"] for row in joined.take_all()) == list(range(1000))
        assert marker.exists()


def stage_workers():
    """Processes that run a stage, of those that come from this one."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = (parent, (folder / "cmdline").read_bytes())

    def is_ours(pid):
        while pid in parents:
            pid = parents[pid][0]
            if pid == os.getpid():
                return True
        return False

    return [pid for pid, (_, command) in parents.items() if b"StageWorker" in command and is_ours(pid)]


class TestOneWorker:
    QUERY = "select a.id % 1000 as k, count(*) as n from a join b on a.id = b.id group by a.id % 1000 order by k"

    def test_query_over_tables_is_one_stage(self):
        ds = aktis.data.sql(self.QUERY, a=aktis.data.range(100), b=aktis.data.range(50))
        assert "run in one worker" in ds.explain()
        assert [row["n"] for row in ds.take_all()] == [1] * 50
        assert " + " in ds.stats(), ds.stats()

    def test_worker_that_is_killed_begins_anew_and_no_row_comes_twice(self):
        ds = aktis.data.sql(self.QUERY, a=aktis.data.range(4_000_000), b=aktis.data.range(3_000_000))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            rows = pool.submit(ds.take_all)
            deadline = time.monotonic() + 60
            while not (workers := stage_workers()) and not rows.done():
                assert time.monotonic() < deadline, "no worker was started"
                time.sleep(0.01)
            assert workers, "it was over before its worker was seen"
            os.kill(workers[0], signal.SIGKILL)
            assert [row["n"] for row in rows.result()] == [3000] * 1000
