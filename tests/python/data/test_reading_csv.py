"""CSV files: in parts, compressed, mixed, broken."""

import gzip
import io
import pickle
import sys
from itertools import pairwise
from random import Random

import aktis
import aktis.data
import pyarrow
import pytest
from aktis.data._formats.csv import CSV
from aktis.data._formats.lines import Between
from aktis.data.datasource import Partitioning, PartitionStyle
from pyarrow import csv
from pyarrow import json as arrow_json


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write


def lines(count, first=0):
    return "".join(f"{number},word {number}\n" for number in range(first, first + count))


def test_file_is_read_with_names_and_types(write):
    ds = aktis.data.read_csv(write("a.csv", "id,word,share\n1,one,0.5\n2,,1\n"))
    assert ds.take_all() == [{"id": 1, "word": "one", "share": 0.5}, {"id": 2, "word": "", "share": 1.0}]
    assert ds.schema().types == [pyarrow.int64(), pyarrow.string(), pyarrow.float64()]
    assert len(ds.input_files()) == 1


def test_large_file_is_read_in_parts_in_order(write):
    path = write("a.csv", "id,word\n" + lines(200_000))
    ds = aktis.data.read_csv(path)
    assert ds.count() == 200_000
    assert ds.filter(expr="id >= 199998").take_all() == [{"id": n, "word": f"word {n}"} for n in (199_998, 199_999)]
    in_seven = aktis.data.read_csv(path, override_num_blocks=7)
    rows = in_seven.map_batches(lambda batch: batch, batch_format="pyarrow").take_all()
    assert [row["id"] for row in rows] == list(range(200_000))
    assert in_seven.stats() == "" or "7" in in_seven.stats()


def test_lines_between_two_bytes_are_those_that_begin_there():
    random = Random(7)
    for _ in range(300):
        text = bytes(random.choices(b"ab\n", weights=(5, 5, random.choice((1, 9))), k=random.randint(1, 60)))
        cuts = [0, *sorted(random.choices(range(len(text)), k=random.randint(0, 5))), len(text)]
        found = b""
        for start, end in pairwise(cuts):
            stream = Between(io.BytesIO(text), start, end)
            assert stream.place == len(found)
            while piece := stream.read(random.randint(1, 9)):
                found += piece
        assert found == text, (text, cuts)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "bz2", "lz4"])
def test_compressed_files_are_read_by_their_names(tmp_path, compression):
    ending = {"gzip": "gz", "zstd": "zst"}.get(compression, compression)
    path = tmp_path / f"a.csv.{ending}"
    with pyarrow.CompressedOutputStream(str(path), compression) as file:
        file.write(("id,word\n" + lines(1000)).encode())
    assert aktis.data.read_csv(tmp_path).count() == 1000
    renamed = path.rename(tmp_path / "b.csv")
    ds = aktis.data.read_csv(renamed, arrow_open_stream_args={"compression": compression})
    assert ds.take(1) == [{"id": 0, "word": "word 0"}]


def test_file_that_was_cut_off_is_named(write):
    path = write("a.csv.gz", gzip.compress(("id,word\n" + lines(10_000)).encode())[:-20])
    with pytest.raises(OSError, match=f"{path}: Truncated"):
        aktis.data.read_csv(path).take_all()
    plain = write("b.csv.gz", "id\n1\n")
    with pytest.raises(OSError, match=f"{plain}: .*incorrect header"):
        aktis.data.read_csv(plain).take_all()


@pytest.mark.parametrize("parts", [None, 5])
def test_broken_row_is_named_by_file_and_line(write, parts):
    path = write("a.csv", "id,word\n" + lines(1000) + "1,2,3\n" + lines(1000))
    with pytest.raises(ValueError, match=f"read {path}, line 1002: Expected 2 columns, got 3: 1,2,3"):
        aktis.data.read_csv(path, override_num_blocks=parts).take_all()


@pytest.mark.parametrize("parts", [None, 5])
def test_value_that_does_not_fit_is_named_with_the_way_out(write, parts):
    path = write("a.csv", "id\n" + "1\n" * 200 + "x\n")
    options = csv.ReadOptions(block_size=100)
    with pytest.raises(ValueError, match="line 202: column 'id': .*invalid value 'x'.*column_types"):
        aktis.data.read_csv(path, read_options=options, override_num_blocks=parts).take_all()
    text = csv.ConvertOptions(column_types={"id": pyarrow.string()})
    ds = aktis.data.read_csv(path, read_options=options, convert_options=text, override_num_blocks=parts)
    assert ds.take_all()[-1] == {"id": "x"}


def test_types_do_not_depend_on_where_a_file_is_cut(write):
    path = write("a.csv", "code\n" + "x\n" * 100 + "123\n" * 1000)
    for parts in (1, 3, 50):
        ds = aktis.data.read_csv(path, override_num_blocks=parts)
        assert ds.take_all() == [{"code": "x"}] * 100 + [{"code": "123"}] * 1000


def test_later_floats_and_values_after_none_widen_the_type(write):
    path = write("a.csv", "a,b\n" + "1,\n" * 200 + "2.5,late\n")
    ds = aktis.data.read_csv(path, read_options=csv.ReadOptions(block_size=100))
    table = ds.to_arrow()
    assert table.schema.types == [pyarrow.float64(), pyarrow.string()]
    assert table.to_pylist()[-1] == {"a": 2.5, "b": "late"} and table.num_rows == 201


def test_files_of_other_columns_go_together_by_name(write, tmp_path):
    write("1.csv", "a,b\n1,x\n")
    write("2.csv", "c,a\n0.5,2\n")
    write("3.csv", "a\n1.5\n")
    table = aktis.data.read_csv(tmp_path).to_arrow()
    assert sorted(table.column_names) == ["a", "b", "c"]
    assert table.column("a").to_pylist() == [1.0, 2.0, 1.5]
    assert table.column("b").to_pylist() == ["x", None, None]


def test_empty_files_and_files_of_names_only_have_no_rows(write, tmp_path):
    assert aktis.data.read_csv(write("empty.csv", "")).take_all() == []
    names = aktis.data.read_csv(write("names.csv", "a,b"))
    assert names.take_all() == [] and names.columns() == ["a", "b"]
    write("rows.csv", "a,b\n1,x\n")
    assert aktis.data.read_csv(tmp_path).take_all() == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize("rows", [10, 100_000])
def test_values_with_lines_in_them_are_whole(write, rows):
    path = write("a.csv", "id,text\n" + "".join(f'{n},"two\nlines, ""{n}"""\n' for n in range(rows)))
    ds = aktis.data.read_csv(path)
    assert ds.count() == rows
    assert ds.take(2) == [{"id": n, "text": f'two\nlines, "{n}"'} for n in (0, 1)]


def test_value_that_goes_over_a_cut_is_refused_and_not_torn(write):
    rows = "".join(f"{n},plain\n" for n in range(40_000)) + '1,"' + "line\n" * 500_000 + '"\n'
    path = write("a.csv", "id,text\n" + rows)
    with pytest.raises(ValueError, match="newlines_in_values=True"):
        aktis.data.read_csv(path).count()
    whole = csv.ParseOptions(newlines_in_values=True)
    assert aktis.data.read_csv(path, parse_options=whole).count() == 40_001


def test_other_encodings_must_be_said(write):
    path = write("a.csv", b"id,word\n" + b"1,plain\n" * 100 + b"2,caf\xe9\n")
    small = csv.ReadOptions(block_size=100)
    with pytest.raises(ValueError, match="line 102: column 'word': .*invalid UTF8.*encoding='latin-1'"):
        aktis.data.read_csv(path, read_options=small).take_all()
    latin = csv.ReadOptions(encoding="latin-1")
    assert aktis.data.read_csv(path, read_options=latin).take_all()[-1] == {"id": 2, "word": "café"}


def test_names_in_another_encoding_and_endings_that_do_not_tell_say_what_helps(write):
    with pytest.raises(ValueError, match=r"a\.csv: .*encoding='utf16'"):
        aktis.data.read_csv(write("a.csv", "id\n1\n".encode("utf-16"))).take_all()
    path = write("b.csv.gz", b"id\n1\n")
    with pytest.raises(OSError, match=r"b\.csv\.gz: .*arrow_open_stream_args=\{'compression': None\}"):
        aktis.data.read_csv(path).take_all()
    assert aktis.data.read_csv(path, arrow_open_stream_args={"compression": None}).take_all() == [{"id": 1}]


def test_two_columns_of_one_name_are_told_with_the_file(write):
    path = write("a.csv", "id,id\n1,2\n")
    with pytest.raises(
        ValueError, match=r"a\.csv: two columns have the name 'id'; read_options=pyarrow\.csv\.ReadOptions"
    ):
        aktis.data.read_csv(path).take_all()
    named = csv.ReadOptions(column_names=["id", "next"], skip_rows=1)
    assert aktis.data.read_csv(path, read_options=named).take_all() == [{"id": 1, "next": 2}]


def test_rows_of_other_lengths_are_told_once_and_may_be_left_out(write, monkeypatch):
    path = write("a.csv", "id;word\n1;a;b\n2;c\n")
    semicolons = csv.ParseOptions(delimiter=";")
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    there = pickle.loads(pickle.dumps(CSV(None, semicolons, None)))
    with pytest.raises(pyarrow.ArrowInvalid, match="Expected 2 columns, got 3"):
        csv.read_csv(path, parse_options=there._parse_options)
    assert not printed
    with pytest.raises(ValueError, match="line 2: Expected 2 columns, got 3"):
        aktis.data.read_csv(path, parse_options=semicolons).take_all()
    lenient = csv.ParseOptions(delimiter=";", invalid_row_handler=lambda row: "skip")
    assert aktis.data.read_csv(path, parse_options=lenient).take_all() == [{"id": 2, "word": "c"}]


def test_delimiters_names_and_columns_are_those_of_pyarrow(write):
    path = write("a.tsv", "1\tx\n2\ty\n")
    ds = aktis.data.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=["id", "word"]),
        parse_options=csv.ParseOptions(delimiter="\t"),
        convert_options=csv.ConvertOptions(include_columns=["word"]),
    )
    assert ds.take_all() == [{"word": "x"}, {"word": "y"}]


def test_folders_and_paths_tell_columns(write, tmp_path):
    first = write("day=1/a.csv", "id\n1\n")
    write("day=2/a.csv", "id\n2\n")
    ds = aktis.data.read_csv(tmp_path, include_paths=True)
    assert ds.take(1) == [{"id": 1, "day": "1", "path": first}]
    assert ds.filter(expr="day = '2'").select_columns(["id", "day"]).take_all() == [{"id": 2, "day": "2"}]
    assert aktis.data.read_csv(tmp_path, partitioning=None).columns() == ["id"]


def test_own_column_path_is_not_hidden(write):
    path = write("a.csv", "path\nmine\n")
    assert aktis.data.read_csv(path).take_all() == [{"path": "mine"}]
    with pytest.raises(ValueError, match="a column 'path' of its own"):
        aktis.data.read_csv(path, include_paths=True).take_all()


def test_missing_paths_and_folders_without_files(write, tmp_path):
    path = write("in/a.csv", "id\n1\n")
    missing = str(tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match="nothing.csv"):
        aktis.data.read_csv([missing, path])
    assert aktis.data.read_csv([missing, path], ignore_missing_paths=True).count() == 1
    with pytest.raises(FileNotFoundError, match="nothing.csv"):
        aktis.data.read_csv(missing, ignore_missing_paths=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file matches"):
        aktis.data.read_csv(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"ending in \.tsv"):
        aktis.data.read_csv(tmp_path / "in", file_extensions=["tsv"])
    with pytest.raises(ValueError, match=r"read_csv\(\) needs at least one path"):
        aktis.data.read_csv([])


def test_files_may_be_chosen_and_shuffled(write, tmp_path):
    for number in range(20):
        write(f"{number:02}.csv", f"id\n{number}\n")
    ds = aktis.data.read_csv(tmp_path, partition_filter=lambda paths: [path for path in paths if "/0" in path])
    assert [row["id"] for row in ds.take_all()] == list(range(10))
    ids = [row["id"] for row in aktis.data.read_csv(tmp_path, shuffle="files").take_all()]
    assert sorted(ids) == list(range(20)) != ids
    with pytest.raises(ValueError, match="leaves no file"):
        aktis.data.read_csv(tmp_path, partition_filter=lambda paths: [])


def test_what_is_not_there_is_refused_by_name(write):
    path = write("a.csv", "id\n1\n")
    with pytest.raises(ValueError, match=r"read_csv\(\): folders that are values only need names"):
        aktis.data.read_csv(path, partitioning="dir")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        TypeError, match=r"read_csv\(\) takes no delimiter=: say parse_options=pyarrow\.csv\.ParseOptions"
    ):
        aktis.data.read_csv(path, delimiter=";")  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="unknown argument 'include_path'; did you mean 'include_paths'"):
        aktis.data.read_csv(path, include_path=True)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="read_parquet\\(\\) takes no filters=: say filter="):
        aktis.data.read_parquet(path, filters=[])  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="knows compression and buffer_size, not seekable"):
        aktis.data.read_csv(path, arrow_open_stream_args={"seekable": True})
    with pytest.raises(ValueError, match="compression='rar'"):
        aktis.data.read_csv(path, arrow_open_stream_args={"compression": "rar"})


def test_file_that_cannot_be_read_is_named_and_files_that_go_meanwhile_too(write, tmp_path):
    path = write("a.csv", "id\n1\n")
    ds = aktis.data.read_csv(path)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.csv"):
        ds.take_all()


def test_rows_of_functions_and_sinks_are_those_of_the_file(write, tmp_path):
    path = write("a.csv", "id,word\n" + lines(5000))
    ds = aktis.data.read_csv(path, override_num_blocks=4)
    ds.map_batches(lambda batch: {"twice": batch["id"] * 2}).write_parquet(tmp_path / "out")
    assert aktis.data.read_parquet(tmp_path / "out").sum("twice") == 2 * sum(range(5000))
    grouped = ds.groupby("word").count().take_all()
    assert len(grouped) == 5000
    assert aktis.data.sql("SELECT id FROM t WHERE id > 4998", t=ds.materialize()).take_all() == [{"id": 4999}]


def test_lost_worker_costs_no_row_and_doubles_none(write, tmp_path):
    path = write("a.csv", "id,word\n" + lines(20_000))
    marker = tmp_path / "killed"

    def kill_once(batch):
        import os
        import signal

        if 12_000 in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    ds = aktis.data.read_csv(path, override_num_blocks=6).map_batches(kill_once, batch_size=500)
    assert [row["id"] for row in ds.take_all()] == list(range(20_000))
    assert marker.exists()


def test_columns_that_folders_tell_have_the_types_that_are_asked_for(tmp_path):
    for year in (2023, 2024):
        folder = tmp_path / f"year={year}" / "is_old=true"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("id\n1\n")
        aktis.data.range(2).write_parquet(tmp_path / f"parquet/year={year}")
    typed = Partitioning("hive", field_types={"year": int, "is_old": pyarrow.bool_()})
    rows = aktis.data.read_csv(tmp_path, partitioning=typed, file_extensions=["csv"]).take_all()
    assert rows == [{"id": 1, "year": year, "is_old": True} for year in (2023, 2024)]
    years = aktis.data.read_parquet(tmp_path / "parquet", partitioning=Partitioning(field_types={"year": int}))
    assert years.filter("year > 2023").take_all() == [{"id": 0, "year": 2024}, {"id": 1, "year": 2024}]
    with pytest.raises(ValueError, match="field_types has 'number' for 'year'"):
        aktis.data.read_csv(tmp_path, partitioning=Partitioning(field_types={"year": "number"}))
    with pytest.raises(ValueError, match="base_dir= says where they begin"):
        aktis.data.read_csv(tmp_path, partitioning=Partitioning(PartitionStyle.DIRECTORY, field_names=["year"]))


def test_block_without_bytes_is_refused_and_reads_nothing_away(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n")
    for size in (0, -1):
        with pytest.raises(
            ValueError, match=rf"read_csv\(\): block_size of read_options must be at least 1, not {size}"
        ):
            aktis.data.read_csv(str(path), read_options=csv.ReadOptions(block_size=size))
        with pytest.raises(ValueError, match=r"read_json\(\): block_size of read_options must be at least 1"):
            aktis.data.read_json(str(path), read_options=arrow_json.ReadOptions(block_size=size))
