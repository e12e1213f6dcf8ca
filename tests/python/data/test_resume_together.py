"""Jobs of several outputs go on where they were left: in all of them, or in none."""

import glob
import os
import time
import warnings

import aktis.data
import pytest
from pyarrow import fs
from waiting import DEADLINE_S

from .unfinished_jobs import GATE, finish, hidden, kill_when, start, told_rows

#: The job of a process of its own: what all outputs share takes its time.
JOB = """
import sys, time
import aktis.data

noted, out, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])

def note(name, batch):
    with open(f"{noted}/{name}", "a") as file:
        file.write(f"{batch['id'][0]}\\n")

def work(batch):
    pass_gate(batch)
    time.sleep(0.02)
    note("work", batch)
    return {"id": batch["id"], "twice": batch["id"] * 2}

def after(batch):
    note("after", batch)
    return {"id": batch["id"], "twice": batch["twice"], "thrice": batch["id"] * 3}

aktis.init(num_cpus=4)
ds = aktis.data.range(rows, override_num_blocks=rows // 20).map_batches(work, batch_size=10, concurrency=2)
with aktis.data.run_together() as run:
    ds.write_parquet(f"{out}/all", mode="append")
    ds.filter(expr="id % 3 == 0").write_csv(f"{out}/some", mode="append")
    ds.map_batches(after, batch_size=7).write_json(f"{out}/more", mode="append")
print(list(run.rows_written().values()))
"""


@pytest.fixture
def noted(tmp_path):
    path = tmp_path / "noted"
    path.mkdir()
    return path


def calls(noted, name="work"):
    path = noted / name
    return len(path.read_text().split("\n")) - 1 if path.exists() else 0


def ids(read, folder):
    rows = read(str(folder)).take_all()
    assert all(row["twice"] == 2 * row["id"] for row in rows)
    return sorted(row["id"] for row in rows)


def test_killed_driver_is_taken_up_in_all_outputs_and_little_is_done_again(tmp_path, noted):
    rows, kills = 2000, (700, 1400)
    script, out = tmp_path / "job.py", tmp_path / "out"
    script.write_text(GATE + JOB)
    out.mkdir()
    for done in kills:
        # Some are done that are not told, for which there are thirty calls more.
        job = start(script, noted, out, rows, below=done + 300)
        kill_when(job, lambda done=done: told_rows(out / "all", 20) >= done)
    said = finish(start(script, noted, out, rows, below=rows))
    assert "goes on with a job that was left unfinished" in said
    assert ids(aktis.data.read_parquet, out / "all") == list(range(rows))
    assert ids(aktis.data.read_csv, out / "some") == list(range(0, rows, 3))
    assert ids(aktis.data.read_json, out / "more") == list(range(rows))
    assert [hidden(out / name) for name in ("all", "some", "more")] == [[], [], []]
    again = calls(noted) - rows // 10
    assert again <= len(kills) * 30, f"{again} calls were made again"


ROWS = 400


def slow(batch):
    time.sleep(0.005)
    return {"id": batch["id"], "twice": batch["id"] * 2}


def failing(marker, out):
    """A function that fails for one of the last rows while a file is there, when some of what comes before it is written."""

    def after(batch):
        if ROWS - 50 in batch["id"] and os.path.exists(marker):
            deadline = time.monotonic() + DEADLINE_S
            while len(glob.glob(f"{out}/.unfinished-*/*.parquet")) < 8 and time.monotonic() < deadline:
                time.sleep(0.01)
            # And told.
            time.sleep(0.2)
            raise RuntimeError("the disk of the model is full")
        return batch

    return after


@pytest.fixture
def left(tmp_path):
    """Two outputs of a job that has failed on the way to the second, and what writes them again: ``run(after, **options)``."""
    marker = tmp_path / "broken"
    marker.touch()
    ds = aktis.data.range(ROWS, override_num_blocks=20).map_batches(slow, batch_size=10)

    fails = failing(str(marker), str(tmp_path / "out" / "a"))

    def run(after=fails, parent="out", **options):
        with aktis.data.run_together() as run:
            ds.write_parquet(tmp_path / parent / "a", **options)
            ds.filter(expr=f"id >= {ROWS // 2}").map_batches(after, batch_size=10).write_csv(
                tmp_path / parent / "b", **options
            )
        return list(run.rows_written().values())

    with pytest.raises(RuntimeError, match="is full") as failure:
        run()
    assert any("write_parquet(): what is done so far is kept" in note for note in failure.value.__notes__)
    assert failure.value.__notes__[-1].endswith("none of the 2 outputs is there")
    marker.unlink()
    return run


def whole(out):
    assert [hidden(out / name) for name in "ab"] == [[], []]
    assert ids(aktis.data.read_parquet, out / "a") == list(range(ROWS))
    assert ids(aktis.data.read_csv, out / "b") == list(range(ROWS // 2, ROWS))


def noting_warnings(write):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        write()
    return "\n".join(str(each.message) for each in seen if not issubclass(each.category, ResourceWarning))


def test_failed_job_goes_on_whatever_mode_says_where_all_folders_were_moved_and_counts_all_rows(left, tmp_path):
    (tmp_path / "out").rename(tmp_path / "moved")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert left(parent="moved", mode="error", resume=True) == [ROWS, ROWS // 2]
    whole(tmp_path / "moved")


def test_changed_function_of_one_output_is_named_and_all_begin_anew(left, tmp_path):
    def other(batch):
        return batch

    with pytest.raises(ValueError, match=r"has changed: the function of MapBatches\(\w+\) on the way to output 2"):
        left(other, resume=True)
    said = noting_warnings(lambda: left(other))
    assert "what it does has changed" in said and "MapBatches(other) on the way to output 2" in said
    assert "b/.unfinished-" in said and "None of its rows counts" in said
    whole(tmp_path / "out")


def test_other_folders_and_formats_are_other_jobs_and_nothing_is_left_where_resume_is_false(left, tmp_path):
    ds = aktis.data.range(ROWS, override_num_blocks=20).map_batches(slow, batch_size=10)
    with (
        pytest.raises(ValueError, match="how files are written of output 1, .*the folder of output 2"),
        aktis.data.run_together(),
    ):
        ds.write_parquet(tmp_path / "out" / "a", compression="zstd", resume=True)
        ds.write_csv(tmp_path / "c")
    with pytest.warns(UserWarning, match="None of its rows counts"):
        assert left(resume=False) == [ROWS, ROWS // 2]
    whole(tmp_path / "out")


def test_another_job_into_one_of_the_folders_says_whose_it_was(left, tmp_path):
    out = tmp_path / "out"
    said = noting_warnings(lambda: aktis.data.range(3).write_csv(out / "b", mode="overwrite"))
    assert f"which writes several together, and goes on only as a whole: {out}/b/../a/_aktis/" in said
    # What was swept there is made again; what was done there meanwhile stays.
    assert left(resume=True)[0] == ROWS
    rows = [row["id"] for row in aktis.data.read_csv(str(out / "b")).take_all()]
    assert sorted(rows) == [0, 1, 2, *range(ROWS // 2, ROWS)]
    assert ids(aktis.data.read_parquet, out / "a") == list(range(ROWS))


def test_rows_that_failed_stay_where_they_were(tmp_path):
    marker = tmp_path / "broken"
    marker.touch()

    def picky(batch):
        time.sleep(0.002)
        if 7 in batch["id"]:
            raise ValueError("seven")
        return {"id": batch["id"], "twice": batch["id"] * 2}

    ds = aktis.data.range(ROWS, override_num_blocks=20).map_batches(picky, batch_size=10, on_error="dead_letter")

    def run(**options):
        with aktis.data.run_together():
            ds.write_parquet(tmp_path / "a", **options)
            ds.map_batches(failing(str(marker), str(tmp_path / "a")), batch_size=10).write_csv(
                tmp_path / "b", **options
            )

    with pytest.raises(RuntimeError, match="is full"):
        run()
    marker.unlink()
    run(resume=True)
    good = [row for row in range(ROWS) if row != 7]
    assert ids(aktis.data.read_parquet, tmp_path / "a") == good
    assert ids(aktis.data.read_csv, tmp_path / "b") == good
    for name in "ab":
        letters = aktis.data.read_dead_letters(str(tmp_path / name)).take_all()
        assert [letter["row"]["id"] for letter in letters] == [7]


def test_jobs_that_cannot_go_on_say_why(tmp_path):
    ds = aktis.data.range(100).map_batches(slow)
    a, b = tmp_path / "a", tmp_path / "b"
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    for write, why in (
        (lambda: ds.write_csv("far", filesystem=store), r"write_csv\('far'\), which is no folder here"),
        (lambda: ds.groupby("id").count().write_csv(b), "rows of different inputs meet"),
        (lambda: ds.limit(3).write_csv(b), "limit"),
        (lambda: aktis.data.range(3).write_csv(b), "several things that are read"),
        (lambda: ds.write_csv(b, resume=False), "say the same for both"),
        (lambda: ds.write_csv(b), "there is no unfinished job"),
    ):
        with pytest.raises(ValueError, match=why), aktis.data.run_together():
            ds.write_parquet(a, resume=True)
            write()
    with pytest.raises(ValueError, match=f"no unfinished job in {a}"), aktis.data.run_together():
        ds.write_parquet(a)
        ds.write_csv(b, resume=True)
    assert not a.exists() and not b.exists()
