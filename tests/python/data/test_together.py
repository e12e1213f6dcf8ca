"""Several writes as one job: shared parts run once, outputs are there together or not at all, whatever dies."""

import contextvars
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid

import aktis.data
import pyarrow
import pyarrow.parquet
import pytest
from aktis.data import _running
from aktis.data._tables import committing
from pyarrow import fs
from waiting import DEADLINE_S


@pytest.fixture
def counted(tmp_path):
    """A dataset of 100 rows behind a function, and how many rows the function got so far."""
    log = tmp_path / "calls"
    log.touch()

    def double(batch):
        with open(log, "a") as file:
            file.write(f"{len(batch['id'])}\n")
        return {"id": batch["id"], "twice": batch["id"] * 2}

    ds = aktis.data.range(100).map_batches(double, batch_size=10)
    return ds, lambda: sum(int(line) for line in log.read_text().split())


def ids(read, folder):
    return sorted(row["id"] for row in read(str(folder)).take_all())


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name[0] in "._"] if folder.exists() else []


class TestSharing:
    def test_function_is_called_once_per_row_for_outputs_of_all_formats(self, counted, tmp_path):
        ds, rows = counted
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / "all")
            ds.filter(expr="id < 10").write_csv(tmp_path / "small")
            ds.filter(expr="id >= 90").write_json(tmp_path / "large")
            ds.write_numpy(tmp_path / "twice", column="twice")
            ds.write_arrow(tmp_path / "days", partition_cols=["twice"])
            ds.limit(7).write_orc(tmp_path / "first")
            ds.groupby("id").count().write_parquet(tmp_path / "groups", mode="overwrite")
            explained = run.explain()
        assert rows() == 100
        assert "once for 1 and 2 and 3" in explained and f"into {tmp_path}/small" in explained
        assert ids(aktis.data.read_parquet, tmp_path / "all") == list(range(100))
        assert ids(aktis.data.read_csv, tmp_path / "small") == list(range(10))
        assert ids(aktis.data.read_json, tmp_path / "large") == list(range(90, 100))
        assert aktis.data.read_numpy(str(tmp_path / "twice")).count() == 100
        assert len(list((tmp_path / "days").iterdir())) == 100
        assert aktis.data.read_orc(str(tmp_path / "first")).count() == 7
        assert aktis.data.read_parquet(str(tmp_path / "groups")).count() == 100
        names = ["all", "small", "large", "twice", "days", "first", "groups"]
        wanted = dict(zip(names, [100, 10, 10, 100, 100, 7, 100], strict=True))
        assert run.rows_written() == {str(tmp_path / name): rows for name, rows in wanted.items()}
        assert all(hidden(tmp_path / name) == [] for name in names)
        assert f"into {tmp_path}/large" in run.stats()
        assert ds.stats() == run.stats()

    def test_files_are_read_once_with_the_rows_and_columns_that_any_branch_wants(self, words, tmp_path):
        ds = aktis.data.read_parquet(str(words))
        with aktis.data.run_together() as run:
            ds.filter(expr="id < 10").select_columns(["id"]).write_parquet(tmp_path / "small")
            ds.filter(expr="id >= 1990").select_columns(["id", "word"]).write_parquet(tmp_path / "large")
            explained = run.explain()
        # `data` is a thousand bytes in each row.
        assert "projection=[id, word]" in explained and "id < Int64(10) OR" in explained
        reads = [stage for stage in run.stats().splitlines() if stage.startswith("Stage") and " Read" in stage]
        assert len(reads) == 1
        assert ids(aktis.data.read_parquet, tmp_path / "small") == list(range(10))
        assert ids(aktis.data.read_parquet, tmp_path / "large") == list(range(1990, 2000))

    def test_rows_that_chance_chose_are_the_same_in_all_outputs(self, tmp_path):
        sample = aktis.data.range(1000).map(lambda row: row).random_sample(0.5)
        with aktis.data.run_together():
            sample.write_parquet(tmp_path / "a")
            sample.write_csv(tmp_path / "b")
        assert ids(aktis.data.read_parquet, tmp_path / "a") == ids(aktis.data.read_csv, tmp_path / "b")

    def test_columns_of_two_tables_with_one_name_go_their_own_ways(self, tmp_path):
        left = aktis.data.from_items([{"id": n, "v": n} for n in range(10)])
        right = aktis.data.from_items([{"id": n, "v": -n} for n in range(10)])
        both = aktis.data.sql("select l.id, l.v, r.v as w from l join r on l.id = r.id", l=left, r=right)
        with aktis.data.run_together():
            both.filter(expr="w < -5").write_parquet(tmp_path / "a")
            both.select_columns(["w"]).write_parquet(tmp_path / "b")
        rows = aktis.data.read_parquet(str(tmp_path / "a")).sort("id").take_all()
        assert rows == [{"id": n, "v": n, "w": -n} for n in range(6, 10)]
        assert sorted(row["w"] for row in aktis.data.read_parquet(str(tmp_path / "b")).take_all()) == [*range(-9, 1)]

    def test_what_is_kept_is_made_once_for_all(self, counted, tmp_path):
        ds, rows = counted
        ds.cache()
        with aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            ds.filter(expr="id < 3").write_csv(tmp_path / "b")
        assert (rows(), ds.count(), rows()) == (100, 100, 100)

    def test_columns_and_dead_rows_are_those_of_the_own_output(self, tmp_path):
        def shared(row):
            if row["id"] == 3:
                raise ValueError("shared")
            return row

        def own(row):
            if row["id"] == 5:
                raise ValueError("own")
            return {"id": row["id"], "more": 1}

        ds = aktis.data.range(10).map(shared, on_error="dead_letter")
        branch = ds.map(own, on_error="dead_letter", num_cpus=0.5)
        elsewhere = ds.filter(expr="id > 7")
        with aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            branch.write_parquet(tmp_path / "b")
            elsewhere.write_csv(tmp_path / "c", dead_letters=tmp_path / "dead")
        assert (ds.columns(), branch.columns()) == (["id"], ["id", "more"])

        def dead(folder):
            return sorted(row["row"]["id"] for row in aktis.data.read_dead_letters(folder).take_all())

        assert (dead(tmp_path / "a"), dead(tmp_path / "b")) == ([3], [3, 5])
        assert dead(tmp_path / "dead") == [3]
        assert not (tmp_path / "c" / "_dead_letters").exists()
        assert [len(each.dead_letters().take_all()) for each in (ds, branch, elsewhere)] == [1, 2, 1]
        assert ids(aktis.data.read_parquet, tmp_path / "b") == [0, 1, 2, 4, 6, 7, 8, 9]

    def test_one_processor_is_enough_for_many_branches(self, tmp_path):
        def wide(batch):
            return {"id": batch["id"]}

        ds = aktis.data.range(300, override_num_blocks=10).map_batches(wide, num_cpus=2)
        with aktis.data.run_together():
            for name in "abcd":
                ds.map_batches(wide, num_cpus=2).write_parquet(tmp_path / name)
        assert [ids(aktis.data.read_parquet, tmp_path / name) for name in "abcd"] == [list(range(300))] * 4


class TestOutputs:
    def test_failure_names_its_output_and_leaves_none(self, counted, tmp_path):
        ds, _ = counted

        def broken(batch):
            raise ValueError("no")

        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "old").touch()
        with pytest.raises(ValueError, match="no") as failure, aktis.data.run_together():
            ds.write_parquet(tmp_path / "a", resume=False)
            ds.write_csv(tmp_path / "b", mode="overwrite")
            ds.map_batches(broken, num_cpus=0.5).write_json(tmp_path / "c")
        (note,) = failure.value.__notes__[-1:]
        assert f"on the way to write_json('{tmp_path}/c'); none of the 3 outputs is there" in note
        assert not (tmp_path / "a").exists() and not (tmp_path / "c").exists()
        assert [path.name for path in (tmp_path / "b").iterdir()] == ["old"]

    def test_job_that_fails_before_anything_is_done_leaves_nothing(self, tmp_path):
        def broken(batch):
            raise ValueError("no")

        context = aktis.data.DataContext.get_current()
        before = context.target_max_block_size
        # Each batch is a block, so that the end of an input comes alone.
        context.target_max_block_size = 512
        try:
            ds = aktis.data.range(512, override_num_blocks=2).map_batches(lambda batch: batch, batch_size=64)
            with pytest.raises(ValueError, match="no"), aktis.data.run_together():
                ds.write_parquet(tmp_path / "a")
                ds.map_batches(broken, num_cpus=0.5).write_json(tmp_path / "b")
            with pytest.raises(ValueError, match="no"):
                ds.map_batches(broken, num_cpus=0.5).write_json(tmp_path / "c")
        finally:
            context.target_max_block_size = before
        assert list(tmp_path.iterdir()) == []

    def test_failure_before_a_branch_names_all_outputs_behind_it(self, tmp_path):
        def broken(batch):
            raise ValueError("no")

        ds = aktis.data.range(10).map_batches(broken)
        with pytest.raises(ValueError, match="no") as failure, aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            ds.write_csv(tmp_path / "b")
            aktis.data.range(10).write_json(tmp_path / "c")
        note = failure.value.__notes__[-1]
        assert f"write_parquet('{tmp_path}/a') and write_csv('{tmp_path}/b');" in note

    def test_names_that_cannot_be_given_fail_all_outputs(self, counted, tmp_path):
        ds, _ = counted

        class Same(aktis.data.datasource.FilenameProvider):
            def get_filename_for_task(self, write_uuid, task_index):
                return f"{write_uuid}.csv"

        ds = ds.repartition(4)
        with pytest.raises(ValueError, match="two files would be called") as failure, aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            ds.write_csv(tmp_path / "b", filename_provider=Same())
        assert f"on the way to write_csv('{tmp_path}/b')" in failure.value.__notes__[-1]
        assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()

    def test_nothing_runs_if_the_block_raises(self, counted, tmp_path):
        ds, rows = counted
        with pytest.raises(KeyError), aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            raise KeyError
        assert rows() == 0 and not (tmp_path / "a").exists()
        ds.write_parquet(tmp_path / "a")
        assert rows() == 100

    def test_block_within_a_block_is_a_job_of_its_own(self, counted, tmp_path):
        ds, rows = counted
        with aktis.data.run_together() as outer:
            ds.write_parquet(tmp_path / "a")
            with aktis.data.run_together() as inner:
                ds.write_parquet(tmp_path / "b")
            assert list(inner.rows_written()) == [str(tmp_path / "b")]
        assert list(outer.rows_written()) == [str(tmp_path / "a")]
        assert rows() == 200

    def test_modes_hold_for_each_output(self, tmp_path):
        ds = aktis.data.range(10)
        for name in "abc":
            ds.write_parquet(tmp_path / name)
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / "a", mode="append")
            ds.limit(3).write_parquet(tmp_path / "b", mode="overwrite")
            ds.write_parquet(tmp_path / "c", mode="ignore")
        assert [aktis.data.read_parquet(str(tmp_path / name)).count() for name in "abc"] == [20, 3, 10]
        assert list(run.rows_written()) == [str(tmp_path / "a"), str(tmp_path / "b")]
        with pytest.raises(ValueError, match="has files already"), aktis.data.run_together():
            ds.write_parquet(tmp_path / "d")
            ds.write_parquet(tmp_path / "c", mode="error")
        assert not (tmp_path / "d").exists()

    def test_folders_that_get_in_each_others_way_are_refused(self, tmp_path):
        ds = aktis.data.range(3)
        with pytest.raises(ValueError, match="go into one folder"), aktis.data.run_together():
            ds.write_parquet(tmp_path / "a")
            ds.write_csv(tmp_path / "b" / ".." / "a")
        with pytest.raises(ValueError, match="replaces what is in its folder"), aktis.data.run_together():
            ds.write_csv(tmp_path / "a" / "b")
            ds.write_parquet(tmp_path / "a", mode="overwrite")

    def test_folders_of_a_store_that_get_in_each_others_way_are_refused(self, tmp_path):
        ds = aktis.data.range(3)
        store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        with pytest.raises(ValueError, match="replaces what is in its folder"), aktis.data.run_together():
            ds.write_csv("a/b", filesystem=store)
            ds.write_parquet("a", mode="overwrite", filesystem=store)
        assert list(tmp_path.iterdir()) == []

    def test_dead_rows_that_would_be_in_the_way_of_rows_are_refused(self, tmp_path):
        ds = aktis.data.range(3).map(lambda row: row, on_error="dead_letter")
        with pytest.raises(ValueError, match=r"is the folder of write_csv\('.*/b'\)"), aktis.data.run_together():
            ds.write_parquet(tmp_path / "a", dead_letters=tmp_path / "b")
            ds.write_csv(tmp_path / "b")
        with pytest.raises(ValueError, match="lies in the folder of write_csv"), aktis.data.run_together():
            ds.write_csv(tmp_path / "b", mode="overwrite")
            ds.write_parquet(tmp_path / "a", dead_letters=tmp_path / "b" / "dead")

    def test_writes_that_are_not_of_the_block_run_by_themselves(self, tmp_path):
        ds = aktis.data.range(3)
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / "a")
            # As tasks of asyncio do, and threads of some programs.
            context = contextvars.copy_context()
            thread = threading.Thread(target=lambda: context.run(ds.write_parquet, tmp_path / "thread"))
            thread.start()
            thread.join()
            assert ids(aktis.data.read_parquet, tmp_path / "thread") == [0, 1, 2]
        context.run(ds.write_parquet, tmp_path / "task")
        assert ids(aktis.data.read_parquet, tmp_path / "task") == [0, 1, 2]
        assert list(run.rows_written()) == [str(tmp_path / "a")]

    def test_interrupt_that_comes_too_late_does_not_say_that_nothing_is_there(self, tmp_path, monkeypatch):
        ended = _running.run

        def interrupted(execution):
            ended(execution)
            raise KeyboardInterrupt

        monkeypatch.setattr(_running, "run", interrupted)
        with pytest.raises(KeyboardInterrupt) as late, aktis.data.run_together():
            aktis.data.range(3).write_parquet(tmp_path / "a")
        assert late.value.__notes__ == ["run_together(): all outputs are there: they were when this came"]
        assert ids(aktis.data.read_parquet, tmp_path / "a") == [0, 1, 2]

    def test_what_cannot_be_part_of_it_is_refused_by_name(self, tmp_path):
        ds = aktis.data.range(3)
        run = aktis.data.run_together()
        with run:
            assert ds.count() == 3
        assert (str(run.stats()), run.rows_written()) == ("", {})
        with pytest.raises(RuntimeError, match="runs once"), run:
            pass

    def test_a_folder_of_a_store_is_one_of_the_outputs(self, counted, tmp_path):
        ds, rows = counted
        (tmp_path / "store").mkdir()
        store = fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())
        with aktis.data.run_together() as run:
            ds.write_parquet("far", filesystem=store)
            ds.write_csv(tmp_path / "near")
        assert rows() == 100
        assert ids(aktis.data.read_parquet, tmp_path / "store" / "far") == list(range(100))
        assert ids(aktis.data.read_csv, tmp_path / "near") == list(range(100))
        assert run.rows_written() == {"far": 100, str(tmp_path / "near"): 100}


class Noted(aktis.data.Datasink):
    """Adds numbers, and notes what it hears."""

    def __init__(self):
        self.heard: list[object] = []

    def on_write_start(self, schema=None):
        self.heard.append("start")

    def write(self, blocks, ctx):
        return sum(sum(block["id"].to_pylist()) for block in blocks)

    def on_write_complete(self, write_result):
        self.heard.append(sum(write_result.write_returns))

    def on_write_failed(self, error):
        self.heard.append(type(error))


class Table(committing.Target):
    """A table whose files are seen when they have no dot before their names."""

    function = "write_table"

    def __init__(self, folder, *, fails=False):
        folder.mkdir()
        self.folder, self.fails = str(folder), fails

    def add(self, rows):
        name = uuid.uuid4().hex
        pyarrow.parquet.write_table(rows, os.path.join(self.folder, f".{name}"))
        return name

    def commit(self, receipts):
        if self.fails:
            raise ValueError("no commit")
        for name in receipts:
            os.rename(os.path.join(self.folder, f".{name}"), os.path.join(self.folder, f"{name}.parquet"))

    def how_to_tell(self):
        return "the folder"

    def discard(self, receipts):
        for name in receipts:
            os.unlink(os.path.join(self.folder, f".{name}"))


def write_table(ds, table):
    committing.write(ds._plan, table, os.path.basename(table.folder), None, ds._keep_stats)


class TestTablesAndSinks:
    def test_they_are_outputs_as_files_are(self, counted, tmp_path):
        ds, rows = counted
        path, sink, table = str(tmp_path / "a.db"), Noted(), Table(tmp_path / "table")
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, twice INTEGER)")
        insert = "INSERT OR REPLACE INTO numbers VALUES (?, ?)"
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / "all")
            ds.filter(expr="id < 10").write_sql(insert, lambda: sqlite3.connect(path))
            ds.filter(expr="id >= 90").write_sql(insert, lambda: sqlite3.connect(path))
            ds.write_datasink(sink)
            write_table(ds.limit(7), table)
        assert rows() == 100
        assert ids(aktis.data.read_parquet, tmp_path / "all") == list(range(100))
        with sqlite3.connect(path) as connection:
            found = connection.execute("SELECT id, twice FROM numbers ORDER BY id").fetchall()
        assert found == [(n, 2 * n) for n in [*range(10), *range(90, 100)]]
        assert sink.heard == ["start", sum(range(100))]
        assert aktis.data.read_parquet(str(tmp_path / "table")).count() == 7
        assert run.rows_written() == {str(tmp_path / "all"): 100, insert: 20, "Noted": 100, "table": 7}

    def test_they_hear_of_failures_and_leave_nothing(self, counted, tmp_path):
        ds, rows = counted

        def broken(batch):
            raise OSError("no")

        sink, table = Noted(), Table(tmp_path / "table")
        with pytest.raises(OSError, match="no"), aktis.data.run_together():
            write_table(ds, table)
            ds.write_datasink(sink)
            ds.map_batches(broken, num_cpus=0.5).write_parquet(tmp_path / "a")
        assert sink.heard[0] == "start" and isinstance(sink.heard[1], type)
        assert issubclass(sink.heard[1], OSError) and len(sink.heard) == 2
        assert os.listdir(table.folder) == [] and not (tmp_path / "a").exists()
        called, off = rows(), Noted()
        with pytest.raises(KeyError), aktis.data.run_together():
            ds.write_datasink(off)
            raise KeyError
        assert (off.heard, rows()) == (["start", KeyError], called)

    def test_commit_that_fails_is_named_and_those_before_it_are_there(self, tmp_path):
        ds = aktis.data.range(10)
        tables = [Table(tmp_path / name, fails=name == "b") for name in "abc"]
        with pytest.raises(ValueError, match="no commit") as failure, aktis.data.run_together():
            for table in tables:
                write_table(ds, table)
            ds.write_parquet(tmp_path / "files")
        note = "run_together(): not committed: write_table('b') and write_table('c'), the other outputs are there"
        assert failure.value.__notes__[-1] == note
        assert [len(os.listdir(table.folder)) > 0 for table in tables] == [True, False, False]
        assert ids(aktis.data.read_parquet, tmp_path / "files") == list(range(10))
        with pytest.raises(ValueError, match="go into one table"), aktis.data.run_together():
            write_table(ds, tables[0])
            write_table(ds, tables[0])


class TestDeaths:
    def test_workers_that_die_before_and_behind_the_branch_lose_no_row(self, tmp_path):
        def dies_once(name):
            marker = tmp_path / name

            def die(batch):
                if 500 in batch["id"] and not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return batch

            return die

        ds = aktis.data.range(1000, override_num_blocks=10).map_batches(dies_once("shared"), batch_size=50)
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / "a")
            ds.map_batches(dies_once("own"), num_cpus=0.5).write_csv(tmp_path / "b")
        assert "workers died" in run.stats()
        assert ids(aktis.data.read_parquet, tmp_path / "a") == list(range(1000))
        assert ids(aktis.data.read_csv, tmp_path / "b") == list(range(1000))

    def test_driver_that_is_killed_leaves_nothing_and_the_next_run_writes_each_output_once(self, tmp_path):
        """While it runs; and when outputs here are visible, and one in a store is not."""
        script = tmp_path / "job.py"
        script.write_text(JOB)

        def run(moment, killed_at):
            folder = tmp_path / killed_at
            (folder / "store").mkdir(parents=True, exist_ok=True)
            command = [sys.executable, script, folder, moment]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

        def ended(jobs):
            return [(job.communicate(timeout=DEADLINE_S)[1], job.returncode) for job in jobs]

        moments = ["running", "visible"]
        for err, code in ended([run(moment, moment) for moment in moments]):
            assert code == -signal.SIGKILL, err
        for moment in moments:
            is_visible = [bool(list((tmp_path / moment / name).glob("job_*"))) for name in "ab"]
            assert is_visible == [moment == "visible"] * 2
        for err, code in ended([run("never", moment) for moment in moments]):
            assert code == 0, err
        for folder in (tmp_path / moment for moment in moments):
            assert ids(aktis.data.read_parquet, folder / "a") == list(range(1000))
            assert ids(aktis.data.read_csv, folder / "b") == list(range(1000))
            assert ids(aktis.data.read_parquet, folder / "store" / "c") == list(range(1000))
            assert hidden(folder / "a") == hidden(folder / "b") == []


#: Three outputs of one function, the last of them in a store: its files get their names when those here are visible.
JOB = """
import os, signal, sys
import aktis.data
from pyarrow import fs

folder, moment = sys.argv[1:]
driver = os.getpid()

def work(batch):
    if moment == "running" and 900 in batch["id"]:
        os.kill(driver, signal.SIGKILL)
    return {"id": batch["id"]}

class Names(aktis.data.datasource.FilenameProvider):
    def __init__(self, ending, kills=False):
        self.ending, self.kills = ending, kills

    def get_filename_for_task(self, write_uuid, task_index):
        if self.kills and moment == "visible":
            os.kill(driver, signal.SIGKILL)
        return f"job_{write_uuid}_{task_index}.{self.ending}"

aktis.init(num_cpus=2, log_to_driver=False)
ds = aktis.data.range(1000, override_num_blocks=4).map_batches(work)
store = fs.SubTreeFileSystem(os.path.join(folder, "store"), fs.LocalFileSystem())
with aktis.data.run_together():
    ds.write_parquet(os.path.join(folder, "a"), mode="append", filename_provider=Names("parquet"))
    ds.write_csv(os.path.join(folder, "b"), mode="append", filename_provider=Names("csv"))
    ds.write_parquet("c", filesystem=store, mode="append", filename_provider=Names("parquet", kills=True))
"""
