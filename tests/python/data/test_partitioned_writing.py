"""Folders by value, rows per file, names of files and options of Parquet, compared with what pyarrow makes and reads."""

import datetime
import decimal
import os

import aktis.data
import numpy
import pyarrow
import pyarrow.dataset
import pytest
from aktis.data.datasource import FilenameProvider
from pyarrow import parquet

KINDS = {
    "text": ["a b/c", "ü%=&", None, ".", "x:y~z+_-*'"],
    "whole": [1, -2, 3, None, 5],
    "float": [1.0, 0.1, 1e20, -0.0, 1e-7],
    "truth": [True, False, None, True, True],
    "day": [datetime.date(2024, 1, day) for day in range(1, 6)],
    "time": [datetime.datetime(2024, 1, 1, 10, 2, second, 5) for second in range(5)],
    "decimal": [decimal.Decimal(f"{number}.50") for number in range(5)],
}


def folders(path):
    """The folders below a folder that have files, from there on."""
    return sorted({os.path.relpath(folder, path) for folder, _, files in os.walk(path) if files})


def rows_of(path, columns):
    table = pyarrow.dataset.dataset(path, partitioning="hive").to_table()
    return sorted(
        map(repr, table.select(columns).cast(pyarrow.schema([(name, "string") for name in columns])).to_pylist())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_values_name_the_folders_that_pyarrow_makes_of_them(kind, tmp_path):
    table = pyarrow.table({"k": KINDS[kind], "x": range(5)})
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    aktis.data.from_arrow(table).write_parquet(ours, partition_cols=["k"])
    pyarrow.dataset.write_dataset(table, theirs, partitioning=["k"], partitioning_flavor="hive", format="parquet")
    assert folders(ours) == folders(theirs)
    assert rows_of(ours, ["k", "x"]) == rows_of(theirs, ["k", "x"])


def test_several_columns_are_folders_in_folders_and_come_back(tmp_path):
    """Job 11 of newcomers: scores by language and day."""
    ds = aktis.data.range(1000).map_batches(
        lambda batch: {
            "id": batch["id"],
            "lang": numpy.array(["en", "de", "pt br"])[batch["id"] % 3],
            "day": batch["id"] % 4,
        },
        batch_size=100,
    )
    for write, read in (("write_parquet", "read_parquet"), ("write_csv", "read_csv"), ("write_json", "read_json")):
        out = tmp_path / write
        getattr(ds, write)(str(out), partition_cols=["lang", "day"])
        assert folders(out) == sorted(f"lang={lang}/day={day}" for lang in ("en", "de", "pt%20br") for day in range(4))
        rows = getattr(aktis.data, read)(str(out)).take_all()
        assert sorted(row["id"] for row in rows) == list(range(1000))
        assert all(
            row["lang"] == ["en", "de", "pt br"][row["id"] % 3] and int(row["day"]) == row["id"] % 4 for row in rows
        )
    one = next((tmp_path / "write_parquet").rglob("*.parquet"))
    assert parquet.read_schema(one).names == ["id"]


def test_thousands_of_folders_have_all_rows(tmp_path):
    aktis.data.range(6000, override_num_blocks=2).map_batches(
        lambda batch: {"id": batch["id"], "k": batch["id"] % 1500}, batch_size=500
    ).write_parquet(tmp_path, partition_cols=["k"])
    assert len(folders(tmp_path)) == 1500
    table = pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table()
    assert sorted(table["id"].to_pylist()) == list(range(6000))


def test_columns_that_are_no_folders_are_refused_before_anything_runs(tmp_path):
    ds = aktis.data.range(3)
    for columns, why in (
        (["x"], "no column 'x'"),
        (["id"], "nothing is left"),
        (["id", "id"], "twice"),
        (["a/b"], "rename"),
    ):
        with pytest.raises(ValueError, match=why):
            ds.write_parquet(tmp_path / "out", partition_cols=columns)
    with pytest.raises(TypeError, match="a list of column names"):
        ds.write_csv(tmp_path / "out", partition_cols="id")
    assert not (tmp_path / "out").exists()
    lists = ds.map(lambda row: {"id": row["id"], "k": [1]})
    with pytest.raises(ValueError, match="no text for the name of a folder"):
        lists.write_parquet(tmp_path / "lists", partition_cols=["k"])


def test_failed_job_leaves_no_folder_of_a_value(tmp_path):
    (tmp_path / "k=0").mkdir()
    (tmp_path / "k=0" / "old.parquet").write_bytes(b"old")

    def fail(batch):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        aktis.data.range(10).map_batches(fail).write_parquet(tmp_path, partition_cols=["id"], mode="overwrite")
    assert folders(tmp_path) == ["k=0"]


def test_overwriting_replaces_folders_of_values_as_a_whole(tmp_path):
    ds = aktis.data.range(6).map_batches(lambda batch: {"id": batch["id"], "k": batch["id"] % 3})
    ds.write_parquet(tmp_path, partition_cols=["k"])
    ds.filter(expr="k < 2").write_parquet(tmp_path, partition_cols=["k"], mode="overwrite")
    assert folders(tmp_path) == ["k=0", "k=1"]
    ds.write_parquet(tmp_path, partition_cols=["k"], mode="append")
    assert pyarrow.dataset.dataset(tmp_path, partitioning="hive").count_rows() == 4 + 6


def test_rows_per_file_hold_in_every_format(tmp_path):
    ds = aktis.data.range(100, override_num_blocks=1)
    for write, read in (("write_csv", "read_csv"), ("write_json", "read_json"), ("write_orc", "read_orc")):
        getattr(ds, write)(tmp_path / write, max_rows_per_file=30)
        files = sorted((tmp_path / write).iterdir())
        assert [getattr(aktis.data, read)(str(file)).count() for file in files] == [30, 30, 30, 10]
    with pytest.raises(ValueError, match="larger than max_rows_per_file"):
        ds.write_csv(tmp_path / "none", min_rows_per_file=10, max_rows_per_file=5)


class Named(FilenameProvider):
    def get_filename_for_task(self, write_uuid, task_index):
        return f"part-{write_uuid}-{task_index:03}.{self.file_format}"


def test_provider_names_the_files_as_in_ray(tmp_path):
    ds = aktis.data.range(100, override_num_blocks=2)
    ds.write_parquet(tmp_path / "parquet", filename_provider=Named(file_format="parquet"))
    ds.write_csv(tmp_path / "csv", filename_provider=Named(file_format="csv"))
    ds.write_csv(tmp_path / "many", filename_provider=Named(file_format="csv"), max_rows_per_file=30)
    names = {name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("parquet", "csv", "many")}
    [uuid] = {name.split("-")[1] for name in names["csv"]}
    assert names["csv"] == [f"part-{uuid}-000.csv", f"part-{uuid}-001.csv"]
    assert [name.replace(name.split("-")[1], "U") for name in names["parquet"]] == [
        "part-U-000-0.parquet",
        "part-U-001-0.parquet",
    ]
    assert [name[-14:] for name in names["many"]] == [
        "000_000000.csv",
        "000_000001.csv",
        "001_000000.csv",
        "001_000001.csv",
    ]
    assert aktis.data.read_csv(tmp_path / "many").count() == 100


class Same(FilenameProvider):
    def get_filename_for_task(self, write_uuid, task_index):
        return "same.csv"


def test_names_that_would_replace_files_are_refused(tmp_path):
    ds = aktis.data.range(100, override_num_blocks=2)
    with pytest.raises(ValueError, match="does not have the write_uuid"):
        ds.write_csv(tmp_path / "out", filename_provider=Same())
    with pytest.raises(ValueError, match=r"two files would be called .*same\.csv"):
        ds.write_csv(tmp_path / "out", filename_provider=Same(), mode="overwrite")
    with pytest.raises(TypeError, match="get_filename_for_task"):
        ds.write_csv(tmp_path / "out", filename_provider=object())  # pyright: ignore[reportArgumentType]
    # All rows are written by then, and kept for a provider that does better.
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] not in "._"] == []
    ds.write_csv(tmp_path / "out", filename_provider=Named(file_format="csv"), resume=True)
    assert aktis.data.read_csv(tmp_path / "out").count() == 100


def test_options_of_parquet_are_those_of_pyarrow(tmp_path):
    ds = aktis.data.range(1000, override_num_blocks=1)
    ds.write_parquet(
        tmp_path, compression="ZSTD", compression_level=7, row_group_size=400, use_dictionary=False, write_statistics=False,
        sorting_columns=[parquet.SortingColumn(0, descending=True)],
    )  # fmt: skip
    [file] = tmp_path.iterdir()
    group = parquet.ParquetFile(file).metadata.row_group(0)
    assert group.num_rows == 400 and group.sorting_columns == (parquet.SortingColumn(0, descending=True),)
    column = group.column(0)
    assert column.compression == "ZSTD" and not column.has_dictionary_page and not column.is_stats_set
    for options, why in (
        ({"compression": "bz2"}, "must be snappy, zstd, gzip, brotli"),
        ({"compression": "lz4", "compression_level": 3}, "only zstd, gzip and brotli"),
    ):
        with pytest.raises(ValueError, match=why):
            ds.write_parquet(tmp_path / "no", **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotImplementedError, match=r"use_dictionary=\['id'\]"):
        ds.write_parquet(tmp_path / "no", use_dictionary=["id"])  # pyright: ignore[reportArgumentType]
