"""Columns that a file has and its folder tells."""

import datetime

import aktis.data
import pyarrow
import pytest
from pyarrow import parquet


def csv_of(folder, files):
    for name, lines in files.items():
        path = folder / name / "a.csv"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(["x,k", *lines]) + "\n")
    return folder


def test_what_file_and_folder_say_is_one_column_of_the_type_of_the_file(tmp_path):
    folder = csv_of(tmp_path, {"k=7": ["1,7", "2,7"], "k=08": ["3,8"]})
    rows = aktis.data.read_csv(folder).sort("x").take_all()
    assert rows == [{"x": 1, "k": 7}, {"x": 2, "k": 7}, {"x": 3, "k": 8}]
    days = csv_of(tmp_path / "days", {"k=2024-01-01": ["1,2024-01-01"]})
    assert aktis.data.read_csv(days).take_all() == [{"x": 1, "k": datetime.date(2024, 1, 1)}]


@pytest.mark.parametrize(("lines", "has"), [(["1,7", "2,9"], "9"), (["1,7", "2,"], "null"), (["1,7", "2,seven"], "7")])
def test_file_that_says_something_else_than_its_folder_is_refused_with_both(tmp_path, lines, has):
    folder = csv_of(tmp_path, {"k=7.5" if has == "7" else "k=7": lines})
    with pytest.raises(ValueError, match=rf"k=.*a\.csv: of the column 'k' its path says 7.* rows with {has}"):
        aktis.data.read_csv(folder).take_all()
    assert aktis.data.read_csv(folder, partitioning=None).count() == 2


def test_folder_without_a_value_goes_with_rows_without_one(tmp_path):
    folder = csv_of(tmp_path, {"k=__HIVE_DEFAULT_PARTITION__": ["1,", "2,"]})
    assert [row["k"] for row in aktis.data.read_csv(folder).take_all()] == [None, None]


def parquet_of(folder, files):
    for name, columns in files.items():
        path = folder / name / "a.parquet"
        path.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.table(columns), path)
    return folder


def test_column_of_parquet_files_has_what_folders_say_where_files_lack_it(tmp_path):
    folder = parquet_of(tmp_path, {"k=7": {"x": [1, 2], "k": [7, 7]}, "k=08": {"x": [3, 4]}})
    ds = aktis.data.read_parquet(folder)
    rows = [{"x": 1, "k": 7}, {"x": 2, "k": 7}, {"x": 3, "k": 8}, {"x": 4, "k": 8}]
    assert ds.sort("x").take_all() == rows
    assert ds.filter("k = 8").sort("x").take_all() == rows[2:]
    assert (ds.filter("k = 8").count(), ds.filter("k is null").count(), ds.sum("k")) == (2, 0, 30)
    assert [row["x"] for row in ds.select_columns(["x"]).sort("x").take_all()] == [1, 2, 3, 4]


@pytest.mark.parametrize("many", [False, True])
def test_what_a_parquet_file_has_counts_whatever_its_folder_tells(tmp_path, many):
    files = {f"k={key}": {"x": [key], "k": [key]} for key in range(100 if many else 1)}
    folder = parquet_of(tmp_path, {**files, "k=100": {"x": [1, 2, 3], "k": [100, 101, 100]}})
    for partitioning in ("hive", None):
        ds = aktis.data.read_parquet(folder, partitioning=partitioning)
        assert sorted(row["k"] for row in ds.take_all())[-3:] == [100, 100, 101]
        assert len(ds.select_columns(["x"]).take_all()) == len(files) + 3
