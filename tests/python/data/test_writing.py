"""Writing Parquet."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import aktis.data
import pyarrow
import pytest
from pyarrow import parquet
from waiting import DEADLINE_S


def test_written_rows_are_read_by_pyarrow(words, tmp_path):
    target = tmp_path / "deep" / "out"
    aktis.data.read_parquet(words).map_batches(
        lambda table: table.append_column("length", [[len(d) for d in table["data"].to_pylist()]]), batch_format="pyarrow"
    ).write_parquet(target)  # fmt: skip
    table = parquet.read_table(target).sort_by("id")
    assert table["id"].to_pylist() == list(range(2000))
    assert set(table["length"].to_pylist()) == {1000}
    assert table["data"][5].as_py() == bytes([5]) * 1000
    assert all(path.suffix == ".parquet" and path.name[0] not in "._" for path in target.iterdir())


def test_modes_treat_a_used_folder_as_in_ray(tmp_path):
    ds = aktis.data.range(5)
    for mode, rows in [("append", 5), ("append", 10), ("ignore", 10), ("overwrite", 5)]:
        ds.write_parquet(tmp_path / "out", mode=mode)  # pyright: ignore[reportArgumentType]
        assert aktis.data.read_parquet(tmp_path / "out").count() == rows
    with pytest.raises(ValueError, match="has files already"):
        ds.write_parquet(tmp_path / "out", mode="error")
    with pytest.raises(ValueError, match="mode"):
        ds.write_parquet(tmp_path / "out", mode="sometimes")  # pyright: ignore[reportArgumentType]


def write_noting_warnings(folder, **options):
    """Writes five rows, and returns what was warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        aktis.data.range(5).write_parquet(folder, **options)
    # What the garbage collector finds meanwhile is none of it.
    return [(str(each.message), each.filename) for each in seen if not issubclass(each.category, ResourceWarning)]


def test_a_second_write_names_what_is_there_and_what_to_do(tmp_path):
    folder = tmp_path / "out"
    assert write_noting_warnings(folder) == []
    [file] = folder.iterdir()
    [(message, place)] = write_noting_warnings(folder)
    for said in (
        str(folder),
        "1 file",
        f"5 rows, {file.stat().st_size} bytes",
        'mode="overwrite"',
        '"ignore"',
        '"error"',
    ):
        assert said in message
    assert place == __file__
    # Again for the next one, although the line is the same.
    assert "10 rows" in write_noting_warnings(folder)[0][0]
    assert aktis.data.read_parquet(folder).count() == 15


def test_modes_that_are_given_and_folders_without_rows_are_written_into_silently(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    (folder / ".hidden").mkdir()
    assert write_noting_warnings(folder) == []
    for mode in ("append", "overwrite", "ignore"):
        assert write_noting_warnings(folder, mode=mode) == []


def test_files_that_tell_no_rows_are_named_all_the_same(tmp_path):
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "notes.txt").write_text("x" * 2000)
    [(message, _)] = write_noting_warnings(tmp_path)
    assert "1 file is in" in message and "(2.0 kB)" in message and "row" in message


def test_a_failed_write_leaves_nothing_to_warn_of(tmp_path):
    def fail(batch):
        raise RuntimeError("not today")

    folder = tmp_path / "out"
    with pytest.raises(RuntimeError):
        aktis.data.range(5).map_batches(fail).write_parquet(folder)
    assert write_noting_warnings(folder) == []


def test_compression_and_row_groups_are_used(tmp_path):
    aktis.data.range(100).write_parquet(tmp_path, compression="zstd", row_group_size=10)
    files = [parquet.ParquetFile(path) for path in tmp_path.iterdir()]
    assert {file.metadata.row_group(0).column(0).compression for file in files} == {"ZSTD"}
    assert max(file.metadata.row_group(i).num_rows for file in files for i in range(file.num_row_groups)) <= 10


def test_limit_is_kept_through_a_write(tmp_path):
    aktis.data.range(1000).filter(lambda row: row["id"] % 2 == 0).limit(7).write_parquet(tmp_path)
    assert sorted(parquet.read_table(tmp_path)["id"].to_pylist()) == [0, 2, 4, 6, 8, 10, 12]


def test_nulls_of_the_first_batches_take_the_type_of_later_ones(tmp_path):
    def label(batch):
        for i in batch["id"]:
            yield {"id": [i], "label": ["late" if i > 5 else None], "number": [1 if i > 2 else 0.5]}

    aktis.data.range(10).map_batches(label, batch_size=10).write_parquet(tmp_path)
    table = parquet.read_table(tmp_path).sort_by("id")
    assert table["label"].to_pylist() == [None] * 6 + ["late"] * 4
    assert table["number"].to_pylist() == [0.5] * 3 + [1.0] * 7


def number_file(path, numbers):
    parquet.write_table(pyarrow.table({"id": list(numbers)}), path)


def failing(batch):
    raise RuntimeError("model is broken")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_failed_job_leaves_nothing_and_keeps_what_was_there(tmp_path, mode):
    number_file(tmp_path / "old.parquet", range(3))

    def fail_late(batch):
        if 90 in batch["id"]:
            failing(batch)
        return batch

    with pytest.raises(RuntimeError, match="model is broken"):
        aktis.data.range(100).map_batches(fail_late, batch_size=5).write_parquet(tmp_path, mode=mode)
    # What is done is kept for whoever runs the same job again, and no reader sees it.
    assert [path.name for path in tmp_path.iterdir() if path.name[0] not in "._"] == ["old.parquet"]
    assert parquet.read_table(tmp_path).num_rows == 3


def test_folder_is_overwritten_by_what_is_read_from_it(tmp_path):
    number_file(tmp_path / "old.parquet", range(100))
    ds = aktis.data.read_parquet(tmp_path).map_batches(lambda batch: {"id": batch["id"] + 1})
    ds.write_parquet(tmp_path, mode="overwrite")
    assert sorted(parquet.read_table(tmp_path)["id"].to_pylist()) == list(range(1, 101))


KILLED = """
    import os, signal, sys
    import aktis.data

    def end(batch):
        if 90 in batch["id"]:
            os.kill(driver, signal.SIGKILL)
        return batch

    driver = os.getpid()
    aktis.init(num_cpus=1, log_to_driver=False)
    aktis.data.range(100).map_batches(end, batch_size=5).write_parquet(sys.argv[1])
"""


def test_job_whose_driver_was_killed_is_named_and_leaves_no_rows(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not list(tmp_path.glob("*.parquet"))
    with pytest.warns(UserWarning, match=r"\.unfinished-.*left by a job that was killed"):
        aktis.data.range(10).write_parquet(tmp_path)
    assert parquet.read_table(tmp_path).num_rows == 10
    assert all(path.suffix == ".parquet" for path in tmp_path.iterdir())


def rows_of_files(folder):
    return sorted(parquet.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def test_files_have_the_rows_that_were_asked_for(tmp_path):
    ds = aktis.data.range(1000, override_num_blocks=50).map_batches(lambda batch: batch)
    ds.write_parquet(tmp_path / "least", min_rows_per_file=500)
    assert sum(rows_of_files(tmp_path / "least")) == 1000
    assert len(rows_of_files(tmp_path / "least")) <= 3
    aktis.data.range(1000, override_num_blocks=1).write_parquet(tmp_path / "most", max_rows_per_file=100)
    assert rows_of_files(tmp_path / "most") == [100] * 10
    ds.write_parquet(tmp_path / "one", concurrency=1)
    assert sum(rows_of_files(tmp_path / "one")) == 1000
    with pytest.raises(ValueError, match="larger than max_rows_per_file"):
        ds.write_parquet(tmp_path / "none", min_rows_per_file=10, max_rows_per_file=5)


def test_files_have_the_bytes_that_were_asked_for(tmp_path):
    ds = aktis.data.range(100_000, override_num_blocks=50).map_batches(lambda batch: batch)
    # Eight bytes a row, and a head for each block: about half of the rows.
    ds.write_parquet(tmp_path, min_bytes_per_file=400_000)
    *least, last = sorted(rows_of_files(tmp_path), reverse=True)
    assert sum(least) + last == 100_000 and least
    assert all(40_000 <= rows <= 60_000 for rows in least)
    ds.write_parquet(tmp_path / "all", min_bytes_per_file=1 << 40)
    assert rows_of_files(tmp_path / "all") == [100_000]
    with pytest.raises(ValueError, match="by rows or by min_bytes_per_file, not both"):
        ds.write_parquet(tmp_path / "none", min_rows_per_file=10, min_bytes_per_file=5)


def test_folder_that_is_there_and_empty_is_there(tmp_path):
    aktis.data.range(3).write_parquet(tmp_path, mode="ignore")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="although empty"):
        aktis.data.range(3).write_parquet(tmp_path, mode="error")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        aktis.data.range(3).write_parquet(tmp_path / "absent", try_create_dir=False)


def test_rows_are_counted_once_if_a_worker_dies_half_way(tmp_path):
    marker = tmp_path / "died"

    def slow_then_die_once(batch):
        time.sleep(0.05)
        if 15 in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    ds = aktis.data.range(20, override_num_blocks=1).map_batches(slow_then_die_once, batch_size=1)
    assert ds.count() == 20
    assert marker.exists()


def test_modes_are_words_or_those_of_the_enumeration(tmp_path):
    aktis.data.range(3).write_parquet(tmp_path / "out", mode=aktis.data.SaveMode.CREATE)
    with pytest.raises(ValueError, match='mode="error"'):
        aktis.data.range(3).write_csv(tmp_path / "out", mode=aktis.data.SaveMode.CREATE)
    aktis.data.range(5).write_parquet(tmp_path / "out", mode=aktis.data.SaveMode.OVERWRITE)
    assert aktis.data.read_parquet(tmp_path / "out").count() == 5
