"""CSV, JSON lines, arrays and images: visible as a whole or not at all."""

import datetime
import gzip
import json
import pathlib

import aktis
import aktis.data
import numpy
import pytest
from pyarrow import csv


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


def test_csv_comes_back_as_it_was(tmp_path):
    rows = [{"id": n, "word": f'a "{n}",\n', "share": n / 8} for n in range(1000)]
    aktis.data.from_items(rows, override_num_blocks=3).write_csv(tmp_path / "out")
    read = aktis.data.read_csv(tmp_path / "out").take_all()
    assert sorted(read, key=lambda row: row["id"]) == rows
    names = visible(tmp_path / "out")
    assert names and all(name.endswith(".csv") and not name.startswith(".") for name in names)


def test_json_comes_back_as_it_was(tmp_path):
    rows = [
        {"id": n, "tags": ["x"] * (n % 3), "more": {"f": 0.1 + n}, "none": None, "yes": n % 2 == 0} for n in range(100)
    ]
    aktis.data.from_items(rows).write_json(tmp_path)
    assert aktis.data.read_json(tmp_path).take_all() == rows
    lines = [line for file in tmp_path.glob("*.json") for line in file.read_text().splitlines()]
    assert [json.loads(line) for line in lines] == rows


def test_values_without_a_word_in_json(tmp_path):
    row = {"when": datetime.datetime(2020, 1, 2, 3, 4, 5), "nan": float("nan"), "array": numpy.arange(4).reshape(2, 2)}
    aktis.data.from_items([row]).write_json(tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert json.loads(file.read_text()) == {"when": "2020-01-02T03:04:05", "nan": None, "array": [[0, 1], [2, 3]]}
    with pytest.raises(TypeError, match="bytes that are no text"):
        aktis.data.from_items([{"b": b"\xff"}]).write_json(tmp_path / "bytes")
    assert not (tmp_path / "bytes").exists()


def test_options_of_csv_and_compression(tmp_path):
    ds = aktis.data.from_items([{"a": 1, "b": "x"}])
    options = csv.WriteOptions(include_header=False, delimiter=";")
    ds.write_csv(tmp_path / "out", write_options=options, arrow_open_stream_args={"compression": "gzip"})
    (file,) = (tmp_path / "out").iterdir()
    assert file.name.endswith(".csv.gz") and gzip.decompress(file.read_bytes()) == b'1;"x"\n'
    ds.write_json(tmp_path / "json", arrow_open_stream_args={"compression": "zstd"})
    assert aktis.data.read_json(tmp_path / "json").take_all() == [{"a": 1, "b": "x"}]


def test_nested_columns_have_no_place_in_csv(tmp_path):
    with pytest.raises(ValueError, match=r"the column 'l' is list<.*write_json\(\) and write_parquet\(\)"):
        aktis.data.from_items([{"l": [1]}]).write_csv(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_that_change_have_files_of_their_own(tmp_path):
    def other(batch):
        return {"a": batch["id"]} if batch["id"][0] < 500 else {"b": batch["id"] / 2}

    aktis.data.range(1000).map_batches(other, batch_size=100).write_csv(tmp_path)
    table = aktis.data.read_csv(tmp_path).to_arrow()
    assert table.num_rows == 1000
    assert table.column("a").null_count == 500 and table.column("b").null_count == 500


@pytest.mark.parametrize("write", ["write_csv", "write_json"])
def test_job_that_fails_leaves_nothing(tmp_path, write):
    def fail(batch):
        if 900 in batch["id"]:
            raise RuntimeError("broken row")
        return batch

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.csv").write_text("id\n7\n")
    ds = aktis.data.range(1000, override_num_blocks=4).map_batches(fail, batch_size=50)
    with pytest.raises(RuntimeError, match="broken row"):
        getattr(ds, write)(tmp_path / "out", mode="overwrite")
    # What is done is kept for whoever runs the same job again, and no reader sees it.
    assert [name for name in visible(tmp_path / "out") if name[0] not in "._"] == ["old.csv"]


def test_modes_are_those_of_parquet(tmp_path):
    out = tmp_path / "out"
    ds = aktis.data.range(10)
    ds.write_csv(out)
    with pytest.warns(RuntimeWarning, match=r"write_csv\(.*1 file is in"):
        ds.write_csv(out)
    ds.write_csv(out, mode="append")
    assert aktis.data.read_csv(out).count() == 30
    ds.write_csv(out, mode="overwrite")
    assert aktis.data.read_csv(out).count() == 10
    ds.write_csv(out, mode="ignore")
    assert aktis.data.read_csv(out).count() == 10
    with pytest.raises(ValueError, match=r"write_csv\(.*mode=\"error\""):
        ds.write_csv(out, mode="error")


def test_files_are_overwritten_by_what_is_read_from_them(tmp_path):
    aktis.data.range(100).write_csv(tmp_path)
    aktis.data.read_csv(tmp_path).filter(expr="id < 50").write_csv(tmp_path, mode="overwrite")
    assert sorted(row["id"] for row in aktis.data.read_csv(tmp_path).take_all()) == list(range(50))


def test_worker_that_dies_while_it_writes_doubles_no_row(tmp_path):
    marker = tmp_path / "killed"

    def kill_once(batch):
        import os
        import signal

        if 700 in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    ds = aktis.data.range(1000, override_num_blocks=4).map_batches(kill_once, batch_size=50)
    ds.write_json(tmp_path / "out")
    assert marker.exists()
    assert sorted(row["id"] for row in aktis.data.read_json(tmp_path / "out").take_all()) == list(range(1000))
    hidden = [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_output_without_rows_keeps_its_columns(tmp_path):
    aktis.data.range(10).filter(expr="id > 100").write_csv(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.read_text().strip() == '"id"'
    ds = aktis.data.read_csv(tmp_path)
    assert ds.count() == 0 and ds.columns() == ["id"]


@pytest.mark.parametrize("write", ["write_parquet", "write_csv", "write_json"])
def test_output_without_rows_whose_columns_only_a_function_knows_is_there(tmp_path, write):
    empty = aktis.data.range(10).map_batches(lambda batch: {"double": batch["id"] * 2}).limit(0)
    getattr(empty, write)(tmp_path / "out")
    assert visible(tmp_path / "out")
    assert getattr(aktis.data, write.replace("write", "read"))(tmp_path / "out").count() == 0


def test_rows_per_file_and_writers_may_be_said(tmp_path):
    ds = aktis.data.range(1000, override_num_blocks=10)
    ds.write_csv(tmp_path / "all", min_rows_per_file=1000)
    assert len(visible(tmp_path / "all")) == 1
    ds.write_json(tmp_path / "some", num_rows_per_file=300, concurrency=1)
    assert aktis.data.read_json(tmp_path / "some").count() == 1000
    with pytest.raises(ValueError, match=r"write_csv\(\): min_rows_per_file"):
        ds.write_csv(tmp_path / "none", min_rows_per_file=0)


def test_what_is_not_there_is_refused_by_name(tmp_path):
    ds = aktis.data.range(1)
    with pytest.raises(
        TypeError, match=r"write_csv\(filesystem=...\) takes a filesystem of pyarrow.fs or of fsspec, not object"
    ):
        ds.write_csv(tmp_path, filesystem=object())
    with pytest.raises(TypeError, match=r"write_json\(\) got an unknown argument 'orient'"):
        ds.write_json(tmp_path, orient="split")  # pyright: ignore[reportCallIssue]
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        ds.write_csv(tmp_path / "no", try_create_dir=False)


def test_arrays_come_back_as_they_were(tmp_path):
    array = numpy.arange(600, dtype=numpy.float32).reshape(100, 2, 3)
    aktis.data.from_numpy(array).write_numpy(tmp_path / "out", column="data")
    read = numpy.concatenate([numpy.load(path) for path in sorted((tmp_path / "out").iterdir())])
    assert (read == array).all() and read.dtype == array.dtype
    with pytest.raises(ValueError, match="no column 'x'"):
        aktis.data.from_numpy(array).write_numpy(tmp_path / "x", column="x")
    with pytest.raises(ValueError, match="no array of numbers of one shape"):
        aktis.data.from_items([{"l": [1]}, {"l": [1, 2]}]).write_numpy(tmp_path / "l", column="l")


def test_images_are_files_each(tmp_path):
    pytest.importorskip("PIL")
    arrays = [numpy.full((4, 5, 3), value, numpy.uint8) for value in range(10)]
    ds = aktis.data.from_items([{"image": array} for array in arrays])
    ds.write_images(tmp_path / "out", "image")
    assert len(visible(tmp_path / "out")) == 10
    read = aktis.data.read_images(tmp_path / "out").take_all()
    assert all((row["image"] == array).all() for row, array in zip(read, arrays, strict=True))
    with pytest.raises(ValueError, match="knows no format 'xyz'"):
        ds.write_images(tmp_path / "no", "image", "xyz")
    with pytest.raises(ValueError, match="is no image"):
        aktis.data.from_items([{"image": numpy.zeros((2, 2, 7))}]).write_images(tmp_path / "no", "image")
    assert not pathlib.Path(tmp_path / "no").exists()


def test_orc_comes_back_as_it_was(tmp_path):
    rows = [{"id": n, "tags": ["x"] * (n % 3), "share": None if n % 7 == 0 else n / 8} for n in range(1000)]
    ds = aktis.data.from_items(rows, override_num_blocks=3)
    ds.write_orc(tmp_path / "out", arrow_orc_args={"compression": "zstd"})
    read = aktis.data.read_orc(tmp_path / "out", include_paths=True).take_all()
    assert sorted(({k: row[k] for k in rows[0]} for row in read), key=lambda row: row["id"]) == rows
    broken = tmp_path / "a.orc"
    broken.write_bytes(b"ORC and no more")
    with pytest.raises((ValueError, OSError), match=str(broken)):
        aktis.data.read_orc(broken).take_all()
    aktis.data.range(3).filter(expr="id > 5").write_orc(tmp_path / "none")
    assert aktis.data.read_orc(tmp_path / "none").columns() == ["id"]
