"""Columns that folders tell, as `partitioning=` says: by name, by place, below a folder, and of types; and filters by them."""

import os
import pathlib

import aktis.data
import pyarrow
import pytest
from aktis.data.datasource import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser
from aktis.data.datasource.partitioning import Partitioning as PartitioningOfRay
from aktis.data.expressions import col
from pyarrow import csv, feather, fs, orc, parquet


def _write_json(table, path):
    pathlib.Path(path).write_text("".join(f'{{"id": {row["id"]}}}\n' for row in table.to_pylist()))


#: Readers, and what writes a file of one column for each.
KINDS = {
    "read_parquet": (parquet.write_table, "parquet"),
    "read_csv": (csv.write_csv, "csv"),
    "read_json": (_write_json, "json"),
    "read_orc": (orc.write_table, "orc"),
    "read_arrow": (feather.write_feather, "arrow"),
    "read_text": (csv.write_csv, "txt"),
    "read_binary_files": (csv.write_csv, "bin"),
}


def files_of(folder, write, ending, folders=("dog/1", "dog/2", "cat/1")):
    for number, name in enumerate(folders):
        (folder / name).mkdir(parents=True)
        write(pyarrow.table({"id": [number]}), str(folder / name / f"a.{ending}"))


@pytest.mark.parametrize("reader", KINDS)
def test_folders_that_are_values_are_columns_of_every_reader(reader, tmp_path):
    files_of(tmp_path / "pets", *KINDS[reader])
    told = Partitioning("dir", base_dir=str(tmp_path / "pets"), field_names=["kind", "age"], field_types={"age": int})
    ds = getattr(aktis.data, reader)(tmp_path, partitioning=told)
    rows = {(row["kind"], row["age"]) for row in ds.take_all()}
    assert rows == {("dog", 1), ("dog", 2), ("cat", 1)}
    assert "path" not in ds.columns()
    named = getattr(aktis.data, reader)(tmp_path, partitioning=told, include_paths=True)
    assert {"path", "kind", "age"} <= set(named.columns())


def test_filter_by_such_a_column_reaches_the_reader(tmp_path):
    files_of(tmp_path / "pets", *KINDS["read_parquet"])
    (tmp_path / "pets/cat/1/b.parquet").write_bytes((tmp_path / "pets/cat/1/a.parquet").read_bytes())
    told = Partitioning("dir", base_dir=str(tmp_path / "pets"), field_names=["kind", None])
    ds = aktis.data.read_parquet(tmp_path / "pets", partitioning=told).filter(expr=col("kind") == "dog")
    assert sorted(row["id"] for row in ds.take_all()) == [0, 1] and ds.columns() == ["id", "kind"]
    assert "full_filters=" in ds.explain()


def test_folder_where_they_begin_is_found_as_it_was_written(tmp_path, monkeypatch):
    files_of(tmp_path / "a b(1)/pets", *KINDS["read_csv"])
    monkeypatch.chdir(tmp_path)
    for base in ("a b(1)/pets", "a b(1)/pets/", f"file://{tmp_path}/a b(1)/pets"):
        told = Partitioning(PartitionStyle.DIRECTORY, base_dir=base, field_names=["kind", "age"])
        assert len(aktis.data.read_csv("a b(1)", partitioning=told).filter("kind = 'dog'").take_all()) == 2
    here = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    told = Partitioning("dir", base_dir="a b(1)/pets", field_names=["kind", "age"])
    for read in (aktis.data.read_csv, aktis.data.read_parquet):
        if read is aktis.data.read_parquet:
            files_of(tmp_path / "q/a b(1)/pets", *KINDS["read_parquet"])
            told = Partitioning("dir", base_dir="q/a b(1)/pets", field_names=["kind", "age"])
        ds = read("q/a b(1)" if read is aktis.data.read_parquet else "a b(1)", filesystem=here, partitioning=told)
        assert {row["kind"] for row in ds.take_all()} == {"dog", "cat"}


def test_files_in_no_folder_have_nothing_there(tmp_path):
    files_of(tmp_path / "pets", *KINDS["read_csv"])
    (tmp_path / "pets/b.csv").write_text("id\n9\n")
    (tmp_path / "c.csv").write_text("id\n10\n")
    told = Partitioning("dir", base_dir=str(tmp_path / "pets"), field_names=["kind", "age"])
    rows = aktis.data.read_csv(tmp_path, partitioning=told).filter("id >= 9").take_all()
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": 9, "kind": None, "age": None},
        {"id": 10, "kind": None, "age": None},
    ]


def test_mistakes_are_told_before_anything_runs(tmp_path):
    files_of(tmp_path / "pets", *KINDS["read_csv"])

    def read(**options):
        return aktis.data.read_csv(tmp_path, partitioning=Partitioning(**options))

    with pytest.raises(ValueError, match="field_names has 1 names, and .* lies in 2 folders below"):
        read(style="dir", base_dir=str(tmp_path / "pets"), field_names=["kind"])
    with pytest.raises(ValueError, match="base_dir= says where they begin"):
        read(style="dir", field_names=["kind", "age"])
    with pytest.raises(ValueError, match="no file lies in folders below base_dir"):
        read(style="dir", base_dir="elsewhere", field_names=["kind", "age"])
    with pytest.raises(ValueError, match="folders that are values only need names"):
        read(style="dir")
    with pytest.raises(ValueError, match="it is 'hive'"):
        read(style="other")


@pytest.mark.parametrize("reader", ["read_parquet", "read_csv"])
def test_named_folders_count_below_the_folder_and_must_be_those_that_are_said(reader, tmp_path):
    files_of(tmp_path / "run=7/sales", *KINDS[reader], folders=("year=2025/day=a%20b", "year=2026/day=c"))
    read = getattr(aktis.data, reader)
    base = str(tmp_path / "run=7/sales")
    assert set(read(tmp_path, partitioning="hive").columns()) == {"id", "run", "year", "day"}
    ds = read(
        tmp_path,
        partitioning=Partitioning("hive", base_dir=base, field_names=["year", "day"], field_types={"year": int}),
    )
    rows = sorted(ds.take_all(), key=lambda row: row["id"])
    assert rows == [{"id": 0, "year": 2025, "day": "a b"}, {"id": 1, "year": 2026, "day": "c"}]
    with pytest.raises(ValueError, match="field_names says day, year, and the folders of .* are year, day"):
        read(tmp_path, partitioning=Partitioning("hive", base_dir=base, field_names=["day", "year"]))


def test_files_are_chosen_by_what_their_folders_tell(tmp_path):
    files_of(tmp_path / "pets", *KINDS["read_csv"])
    base = str(tmp_path / "pets")
    adults = PathPartitionFilter.of(
        lambda told: told["age"] > 1, "dir", base, field_names=["kind", "age"], field_types={"age": int}
    )
    assert [row["id"] for row in aktis.data.read_csv(base, partition_filter=adults).take_all()] == [1]
    dogs = PathPartitionFilter(PathPartitionParser.of("dir", base, ["kind", None]), lambda told: told["kind"] == "dog")
    assert dogs.parser.scheme.field_names == ["kind", None]
    assert sorted(row["id"] for row in aktis.data.read_csv(base, partition_filter=dogs).take_all()) == [0, 1]


def test_folders_of_a_store_are_values_without_base_dir():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for kind in ("dog", "cat"):
        memory.pipe(f"/{kind}/a.csv", b"id\n1\n")
    told = Partitioning("dir", field_names=["kind"])
    ds = aktis.data.read_csv(["memory://dog/a.csv", "memory://cat/a.csv"], partitioning=told)
    assert sorted(row["kind"] for row in ds.take_all()) == ["cat", "dog"]


def test_parser_reads_paths_as_ray_does():
    hive = PathPartitionParser.of("hive", base_dir="s3://bucket/a", field_types={"n": float, "is": bool})
    assert hive("s3://bucket/a/n=1.5/is=true/b/c.csv") == {"n": 1.5, "is": True}
    assert hive("s3://bucket/b/n=1/c.csv") == {} == hive("s3://bucket/a/c.csv")
    numbers = PathPartitionParser.of(field_types={"n": int})
    assert numbers("n=__HIVE_DEFAULT_PARTITION__/a.csv") == {"n": None}
    assert PathPartitionParser.of()("a=b=c/x.csv") == {"a": "b=c"}, "as the reader of the file says"
    with pytest.raises(ValueError, match="n=few/a.csv: the folder says n=few"):
        numbers("n=few/a.csv")
    plain = PathPartitionParser.of("dir", field_names=["year", "month"])
    assert plain("2009/11/a.csv") == {"year": "2009", "month": "11"}
    assert plain("a.csv") == {}
    with pytest.raises(ValueError, match="field_names has 2 names"):
        plain("2009/a.csv")
    assert (
        os.path.abspath("x") not in PathPartitionParser.of("dir", base_dir="x", field_names=["k"])("x/1/a.csv").values()
    )


def test_ray_has_them_in_a_module_of_their_own():
    assert PartitioningOfRay is Partitioning


def test_folder_where_partitions_begin_may_be_a_path(tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.csv").write_text("id\n1\n")
    partitioning = Partitioning("dir", base_dir=tmp_path, field_names=["kind"])
    assert aktis.data.read_csv(tmp_path, partitioning=partitioning).take_all() == [{"id": 1, "kind": "dog"}]
    assert PathPartitionParser(partitioning)(str(tmp_path / "dog" / "a.csv")) == {"kind": "dog"}
