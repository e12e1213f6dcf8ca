"""Writing into a store: whole or not at all, whatever accidents there are."""

import io
import os
import re
import signal

import aktis.data
import numpy
import pyarrow
import pyarrow.dataset
import pytest
from aktis.data.datasource import FilenameProvider
from pyarrow import fs, parquet

from .object_store import ObjectStore


@pytest.fixture
def store():
    """A store with some latency and a bucket."""
    made = ObjectStore(latency_seconds=0.003)
    yield made
    made.close()


def written(store, folder="out"):
    """The files that readers see."""
    names = (key for key in store.files if key.startswith(f"{folder}/") and not key.endswith("/"))
    return sorted(name for name in names if not name.removeprefix(f"{folder}/").startswith((".", "_")))


def hidden(store, folder="out"):
    return sorted(key for key in store.files if key.startswith(f"{folder}/.") and not key.endswith("/"))


def ids(store, folder="out"):
    tables = (parquet.read_table(io.BytesIO(store.files[name])) for name in written(store, folder))
    return sorted(value for table in tables for value in table["id"].to_pylist())


class TestFormats:
    def test_parquet_is_written_by_url_and_by_filesystem_and_read_again(self, store):
        numbers = aktis.data.range(1000, override_num_blocks=4)
        numbers.write_parquet(store.url("out"))
        assert ids(store) == list(range(1000))
        assert hidden(store) == []
        numbers.write_parquet("bucket/other", filesystem=store.filesystem(), max_rows_per_file=100)
        assert len(written(store, "other")) >= 10
        assert aktis.data.read_parquet("bucket/other", filesystem=store.filesystem()).sum("id") == sum(range(1000))

    def test_every_format_of_files_is_written(self, store):
        filesystem = store.filesystem()
        rows = aktis.data.from_items([{"id": i, "text": f"t{i}"} for i in range(20)])
        rows.write_csv("bucket/csv", filesystem=filesystem)
        rows.write_json(store.url("json"), arrow_open_stream_args={"compression": "gzip"})
        rows.write_orc("bucket/orc", filesystem=filesystem)
        aktis.data.from_numpy(numpy.arange(6).reshape(3, 2)).write_numpy(
            "bucket/npy", column="data", filesystem=filesystem
        )
        read = aktis.data
        assert read.read_csv("bucket/csv", filesystem=filesystem).take_all() == rows.take_all()
        assert read.read_json(store.url("json")).take_all() == rows.take_all()
        assert read.read_orc("bucket/orc", filesystem=filesystem).take_all() == rows.take_all()
        assert read.read_numpy("bucket/npy", filesystem=filesystem).count() == 3
        assert written(store, "json")[0].endswith(".json.gz")

    def test_columns_that_differ_from_part_to_part_are_made_alike(self, store):
        def some(batch):
            is_first = batch["id"][0] == 0
            return {"id": batch["id"], "x": batch["id"] if is_first else batch["id"] + 0.5}

        numbers = aktis.data.range(40, override_num_blocks=2).map_batches(some, batch_size=20)
        numbers.write_parquet(store.url("out"))
        kinds = {str(parquet.read_schema(io.BytesIO(store.files[name])).field("x").type) for name in written(store)}
        assert kinds == {"double"}
        assert ids(store) == list(range(40))

    def test_nothing_is_a_file_that_tells_its_columns(self, store):
        aktis.data.range(10).filter("id < 0").write_parquet(store.url("out"))
        assert aktis.data.read_parquet(store.url("out")).columns() == ["id"]

    def test_large_files_go_in_parts(self, store):
        big = numpy.random.default_rng(7).integers(0, 256, 12 << 20, numpy.uint8).tobytes()
        aktis.data.from_items([{"id": 1, "big": big}]).write_parquet(store.url("out"), compression="none")
        assert any("partNumber" in request.query for request in store.requests)
        assert store.unfinished_uploads == 0
        assert aktis.data.read_parquet(store.url("out")).take_all()[0]["big"] == big


class TestModes:
    def test_overwriting_replaces_what_is_there_even_what_is_read(self, store):
        aktis.data.range(100).write_parquet(store.url("out"))
        old = written(store)
        kept = aktis.data.read_parquet(store.url("out")).filter("id < 10")
        kept.write_parquet(store.url("out"), mode="overwrite")
        assert ids(store) == list(range(10))
        assert not set(old) & set(written(store))

    def test_what_is_there_is_named_kept_or_refused(self, store):
        numbers = aktis.data.range(5)
        numbers.write_csv(store.url("out"))
        with pytest.warns(RuntimeWarning, match=r"1 file is in s3://bucket/out already \(15 bytes\)"):
            numbers.write_csv(store.url("out"))
        numbers.write_csv(store.url("out"), mode="append")
        assert len(written(store)) == 3
        numbers.write_csv(store.url("out"), mode="ignore")
        with pytest.raises(
            ValueError, match=r'write_csv\(\'s3://bucket/out\', mode="error"\): the folder has files already'
        ):
            numbers.write_csv(store.url("out"), mode="error")
        assert len(written(store)) == 3
        with pytest.raises(ValueError, match="this is a file"):
            numbers.write_csv(store.url(written(store)[0]))
        with pytest.raises(FileNotFoundError, match="try_create_dir"):
            numbers.write_csv(store.url("nowhere"), try_create_dir=False)

    def test_other_folders_are_written_into_and_those_that_take_no_files_refuse(self, tmp_path):
        nested = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        aktis.data.range(5).write_csv("a/b", filesystem=nested)
        assert aktis.data.read_csv(tmp_path / "a").sum("id") == 10
        assert [entry.name.startswith(".") for entry in (tmp_path / "a/b").iterdir()] == [False]
        with pytest.raises(NotImplementedError, match="a web server takes no files"):
            aktis.data.range(5).write_csv("http://127.0.0.1:1/out")

    def test_filesystems_of_fsspec_are_written_into(self, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        folder = fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
        aktis.data.range(5).write_parquet("a/b", filesystem=folder)
        aktis.data.range(7).write_parquet("a/b", filesystem=folder, mode="overwrite")
        assert aktis.data.read_parquet(tmp_path / "a").sum("id") == 21
        assert [entry.name.startswith(".") for entry in (tmp_path / "a/b").iterdir()] == [False]
        with pytest.raises(NotImplementedError, match="memory:// belong to this process"):
            aktis.data.range(5).write_csv("memory://out")


class Named(FilenameProvider):
    def get_filename_for_task(self, write_uuid, task_index):
        return f"part-{write_uuid}-{task_index:03}.{self.file_format}"


class Same(FilenameProvider):
    def get_filename_for_task(self, write_uuid, task_index):
        return "same.csv"


class TestNames:
    def test_provider_names_the_files_as_in_a_folder_here(self, store, tmp_path):
        ds = aktis.data.range(100, override_num_blocks=2).map_batches(
            lambda batch: {"id": batch["id"], "k": batch["id"] % 2}
        )
        for write, ending, options in (
            ("write_parquet", "parquet", {}),
            ("write_csv", "csv", {"max_rows_per_file": 30}),
            ("write_csv", "csv", {"partition_cols": ["k"]}),
        ):
            folder = f"{write}{len(options)}{'k' if 'partition_cols' in options else ''}"
            getattr(ds, write)(tmp_path / folder, filename_provider=Named(file_format=ending), **options)
            getattr(ds, write)(store.url(folder), filename_provider=Named(file_format=ending), **options)
            here = [
                str(path.relative_to(tmp_path / folder)) for path in (tmp_path / folder).rglob("*.*") if path.is_file()
            ]
            there = [name.partition("/")[2] for name in written(store, folder)]
            assert without_uuid(there) == without_uuid(name for name in here if not name.startswith("_"))
        assert hidden(store) == []

    def test_names_that_would_replace_files_are_refused_and_nothing_is_left(self, store):
        ds = aktis.data.range(100, override_num_blocks=2)
        with pytest.raises(ValueError, match="does not have the write_uuid"):
            ds.write_csv(store.url("out"), filename_provider=Same())
        with pytest.raises(ValueError, match=r"two files would be called .*same\.csv"):
            ds.write_csv(store.url("out"), filename_provider=Same(), mode="overwrite")
        assert written(store) == hidden(store) == []


def without_uuid(names):
    return sorted(re.sub(r"part-[0-9a-f]{12}-", "part-U-", name) for name in names)


class TestAccidents:
    def test_requests_that_fail_are_made_again_and_every_row_is_there_once(self, store):
        for kind in ("503", "lost", "500"):
            store.arm(kind, 2, lambda request: request.method in ("PUT", "POST", "DELETE"))
        aktis.data.range(1000, override_num_blocks=6).write_parquet("bucket/out", filesystem=store.filesystem())
        assert ids(store) == list(range(1000))
        assert hidden(store) == []

    def test_failed_job_leaves_nothing_and_keeps_what_it_should_have_replaced(self, store):
        aktis.data.range(10).write_parquet(store.url("out"))

        def fails(batch):
            if 77 in batch["id"]:
                raise ValueError("seven")
            return batch

        numbers = aktis.data.range(100, override_num_blocks=10).map_batches(fails, batch_size=10)
        for mode in ("append", "overwrite"):
            with pytest.raises(ValueError, match="seven"):
                numbers.write_parquet(store.url("out"), mode=mode)
            assert ids(store) == list(range(10))
            assert hidden(store) == []

    def test_end_that_fails_half_way_is_taken_back(self, store):
        aktis.data.range(10).write_parquet(store.url("out"))
        old = written(store)
        names = []

        def is_third_copy(request):
            is_copy = (
                request.method == "PUT"
                and "/out/.unfinished-" not in request.path
                and "partNumber" not in request.query
            )
            if is_copy and request.path not in names:
                names.append(request.path)
            return is_copy and request.path in names[2:]

        store.arm("403", 100, is_third_copy)
        numbers = aktis.data.range(100, override_num_blocks=6)
        with pytest.raises(PermissionError, match=r"write bucket/out/.*access is denied"):
            numbers.write_parquet("bucket/out", filesystem=store.filesystem(), mode="overwrite")
        assert len(names) >= 3
        assert written(store) == old
        assert hidden(store) == []

    def test_rows_of_a_worker_that_dies_are_there_once(self, store, tmp_path):
        def dies_once(batch):
            marker = tmp_path / "died"
            if 50 in batch["id"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

        numbers = aktis.data.range(100, override_num_blocks=5).map_batches(dies_once, batch_size=10)
        numbers.write_parquet(store.url("out"))
        assert (tmp_path / "died").exists()
        assert ids(store) == list(range(100))

    def test_what_an_unfinished_job_has_left_is_named(self, store):
        store.files["out/.unfinished-dead/3-dead_000000_000000.parquet"] = b"half"
        store.files["out/dead_000001_000000.parquet"] = b"whole"
        with pytest.warns(UserWarning, match=r"out/.unfinished-dead holds 1 files .* and 1 of its files are visible"):
            aktis.data.range(5).write_parquet(store.url("out"), mode="append")
        with pytest.warns(UserWarning, match="out/.unfinished-dead holds 1 files"):
            aktis.data.range(5).write_parquet(store.url("out"), mode="overwrite")
        assert ids(store) == list(range(5))
        assert hidden(store) == ["out/.unfinished-dead/3-dead_000000_000000.parquet"]

    def test_store_that_may_not_be_written_says_so_before_anything_is_made(self, store, monkeypatch, tmp_path):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        with pytest.raises(PermissionError, match=r"access is denied \(403\)"):
            aktis.data.range(5).write_parquet("bucket/out", filesystem=store.filesystem(key="stranger"))
        assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("aktis-upload-")] == []

    def test_nothing_is_left_in_the_temporary_folder(self, store, monkeypatch, tmp_path):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        aktis.data.range(5).write_parquet(store.url("out"))
        assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("aktis-upload-")] == []


def test_other_readers_see_the_rows(store):
    aktis.data.range(100, override_num_blocks=3).write_parquet(store.url("out"))
    table = pyarrow.dataset.dataset("bucket/out", filesystem=store.filesystem(), format="parquet").to_table()
    assert sorted(table["id"].to_pylist()) == list(range(100))
