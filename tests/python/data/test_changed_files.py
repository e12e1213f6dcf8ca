"""Files that are replaced, grow or go after a dataset was made: whatever is told of it is told of the files as they are then."""

import os
import time

import aktis.data
import aktis.testing
import pyarrow
import pytest
from aktis.data.expressions import col
from pyarrow import fs, parquet

from .object_store import ObjectStore


def write(path, numbers, **options):
    parquet.write_table(pyarrow.table({"id": pyarrow.array(numbers, pyarrow.int64())}), path, **options)


def replace(path, numbers, **options):
    """As writers do that are careful: under another name first."""
    write(f"{path}.new", numbers, **options)
    os.replace(f"{path}.new", path)


def ids(dataset):
    return [row["id"] for row in dataset.take_all()]


def test_rows_counts_and_blocks_are_those_of_the_files_as_they_are(tmp_path):
    write(tmp_path / "a.parquet", range(3))
    write(tmp_path / "b.parquet", [5000])
    ds = aktis.data.read_parquet(tmp_path)
    few, large = ds.limit(4), ds.filter(expr=col("id") > 1)
    twice = ds.join(ds, join_type="inner", num_partitions=1, on=("id",))
    assert (ds.count(), few.count(), large.count(), twice.count(), ds.num_blocks()) == (4, 4, 2, 4, 2)
    before = ds.size_bytes()
    replace(tmp_path / "a.parquet", range(1000), row_group_size=250)
    assert (ds.count(), few.count(), large.count(), twice.count(), ds.num_blocks()) == (1001, 4, 999, 1001, 5)
    assert ids(ds) == [*range(1000), 5000]
    assert ds.size_bytes() > before + 7000
    assert ds.columns() == ["id"]
    replace(tmp_path / "a.parquet", [])
    assert (ds.count(), few.count(), ids(ds)) == (1, 1, [5000])


def test_a_file_of_the_same_length_and_time_is_another_one_all_the_same(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, range(200), compression="none", use_dictionary=False)
    ds = aktis.data.read_parquet(path)
    assert ds.sum("id") == sum(range(200))
    there = path.stat()
    replace(path, range(200, 400), compression="none", use_dictionary=False)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    assert path.stat().st_size == there.st_size
    assert ds._plan.look() != aktis.data.range(1)._plan.look()
    assert (ds.count(), ds.sum("id")) == (200, sum(range(200, 400)))


def test_other_columns_and_files_that_have_gone_say_so(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, range(3))
    ds = aktis.data.read_parquet(path)
    parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    for asked in (ds.count, ds.take, ds.schema, ds.size_bytes, ds.num_blocks, ds.explain):
        with pytest.raises(
            ValueError, match=r"replaced since .* other columns \('id' was Int64 and is Utf8\); make the dataset"
        ):
            asked()
    parquet.write_table(pyarrow.table({"id": [1], "more": [2]}), path)
    with pytest.raises(ValueError, match="'more' is new"):
        ds.count()
    path.unlink()
    for asked in (ds.count, ds.take, ds.schema):
        with pytest.raises(
            FileNotFoundError, match=r"a.parquet: it has gone since the dataset was made; make the dataset again"
        ):
            asked()


def test_lines_that_were_added_are_read_also_where_the_file_is_cut(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number:06}\n" for number in range(200_000)))
    ds = aktis.data.read_text(path)
    assert ds.count() == 200_000
    with path.open("a") as file:
        file.writelines(f"more {number:06}\n" for number in range(1000))
    assert ds.count() == 201_000
    path.write_text("one\n")
    assert ds.take_all() == [{"text": "one"}]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="a.txt: it has gone since"):
        ds.count()


def test_a_count_that_needs_no_run_misses_files_that_have_gone(tmp_path):
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"x")
    ds = aktis.data.read_binary_files(tmp_path)
    assert ds.count() == 2
    (tmp_path / "b.bin").unlink()
    with pytest.raises(FileNotFoundError, match="b.bin: it has gone since"):
        ds.count()


def test_columns_that_a_run_has_told_are_forgotten_when_the_file_is_another_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,word\n1,a\n")
    ds = aktis.data.read_csv(path)
    assert ds.columns() == ["id", "word"]
    ran = aktis.data.read_csv(path)
    ran.take_all()
    assert ran.columns() == ["id", "word"]
    path.write_text("key\n7\n")
    assert (ds.columns(), ran.columns()) == (["key"], ["key"])
    assert ran.schema(fetch_if_missing=False).names == ["key"]


def test_rows_that_are_kept_stay_as_they_are(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, range(3))
    kept, made = aktis.data.read_parquet(path).cache(), aktis.data.read_parquet(path).materialize()
    assert ids(kept) == [0, 1, 2]
    replace(path, range(5))
    for ds in (kept, made):
        assert (ds.count(), ids(ds), ds.columns()) == (3, [0, 1, 2], ["id"])
    assert kept.unpersist().count() == 5


@pytest.fixture
def here(tmp_path):
    """Files that are far, as far as anybody can tell."""
    return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())


def test_files_elsewhere_are_looked_at_again(tmp_path, here):
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    write(tmp_path / "few/a.parquet", range(3))
    for number in range(70):
        write(tmp_path / f"many/{number:02}.parquet", [number])
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    few = aktis.data.read_parquet("few", filesystem=here)
    many = aktis.data.read_parquet("many", filesystem=here)
    lines = aktis.data.read_csv("a.csv", filesystem=here)
    assert (few.count(), sorted(ids(few)), many.count(), lines.count()) == (3, [0, 1, 2], 70, 2)
    # A look holds for a second.
    time.sleep(1.1)
    replace(tmp_path / "few/a.parquet", range(5000))
    replace(tmp_path / "many/07.parquet", range(1000))
    with (tmp_path / "a.csv").open("a") as file:
        file.write("3\n")
    assert (few.count(), ids(few) == list(range(5000))) == (5000, True)
    assert (many.count(), lines.count()) == (1069, 3)
    time.sleep(1.1)
    (tmp_path / "few/a.parquet").unlink()
    (tmp_path / "many/07.parquet").unlink()
    for ds in (few, many):
        with pytest.raises(FileNotFoundError, match="it has gone since the dataset was made"):
            ds.count()


def test_what_the_first_block_of_a_far_file_has_told_is_forgotten_when_it_is_another_one(tmp_path, here):
    rows = 600_000
    with aktis.testing.local():
        (tmp_path / "a.csv").write_text("id\n" + "1\n" * rows)
        ds = aktis.data.read_csv("a.csv", filesystem=here, override_num_blocks=4)
        assert ds.sum("id") == rows
        time.sleep(1.1)
        (tmp_path / "a.csv").write_text("id\n" + "x\n" * rows)
        assert ds.unique("id") == ["x"]


def test_files_of_servers_that_have_grown_are_read_to_their_ends():
    store = ObjectStore()
    try:
        store.files["a.csv"] = b"id\n1\n"
        in_bucket = aktis.data.read_csv(store.url("a.csv"))
        on_the_web = aktis.data.read_csv(f"http://{store.endpoint}/bucket/a.csv")
        assert (in_bucket.count(), on_the_web.count()) == (1, 1)
        time.sleep(1.1)
        store.files["a.csv"] = b"id\n1\n2\n"
        assert (in_bucket.count(), on_the_web.count()) == (2, 2)
        time.sleep(1.1)
        del store.files["a.csv"]
        for ds in (in_bucket, on_the_web):
            with pytest.raises(FileNotFoundError, match="a.csv: it has gone since"):
                ds.count()
    finally:
        store.close()
