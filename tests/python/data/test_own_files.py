"""Files of formats of one's own: sources that say what a file has, sinks that say what goes into one."""

import errno
import gzip
import io
import json
import os
import pickle

import aktis.data
import pandas
import pyarrow
import pytest
from aktis.data.block import BlockAccessor
from aktis.data.datasource import (
    BlockBasedFileDatasink,
    Datasink,
    FileBasedDatasource,
    FilenameProvider,
    FileShuffleConfig,
    RowBasedFileDatasink,
)
from pyarrow import parquet


class Lines(FileBasedDatasource):
    """A row per line; some come as data frames."""

    def _read_stream(self, f, path):
        for number, line in enumerate(f.read().decode().split()):
            yield {"line": [line]} if number else pandas.DataFrame({"line": [line]})


class Json(RowBasedFileDatasink):
    def write_row_to_file(self, row, file):
        file.write(json.dumps(row).encode())


class Tables(BlockBasedFileDatasink):
    """As scripts for Ray have it."""

    def write_block_to_file(self, block, file):
        parquet.write_table(block.to_arrow(), file)


def lines_of(folder):
    (folder / "day=1").mkdir(parents=True)
    (folder / "day=1" / "a.lines").write_text("one\ntwo\n")
    (folder / "b.lines.gz").write_bytes(gzip.compress(b"three"))
    (folder / "c.txt").write_text("no line")
    return folder


def test_files_of_an_own_source_give_their_rows_with_what_paths_tell(tmp_path):
    folder = lines_of(tmp_path)
    ds = aktis.data.read_datasource(
        Lines(str(folder), include_paths=True, partitioning="hive", file_extensions=["lines", "gz"])
    )
    rows = {(row["line"], row["day"], os.path.basename(row["path"])) for row in ds.take_all()}
    assert rows == {("one", "1", "a.lines"), ("two", "1", "a.lines"), ("three", None, "b.lines.gz")}
    assert len(ds.input_files()) == 2
    for more, left in (
        ({"file_extensions": ["gz"]}, ["three"]),
        ({"partition_filter": lambda paths: [path for path in paths if "day" in path]}, ["one", "two"]),
        ({"ignore_missing_paths": True, "shuffle": FileShuffleConfig(seed=1)}, ["one", "three", "two"]),
    ):
        more = {"file_extensions": ["lines", "gz"], **more}
        paths = [str(folder), *([str(folder / "gone")] if "ignore_missing_paths" in more else [])]
        assert sorted(row["line"] for row in aktis.data.read_datasource(Lines(paths, **more)).take_all()) == left


def test_files_of_an_own_source_come_from_a_filesystem(tmp_path):
    from pyarrow import fs

    lines_of(tmp_path)
    source = Lines("day=1/a.lines", filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    assert aktis.data.read_datasource(source).count() == 2


def test_mistakes_of_own_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        aktis.data.read_datasource(Lines(str(tmp_path / "gone")))

    class Broken(FileBasedDatasource):
        def _read_stream(self, f, path):
            raise ValueError("it is upside down")

    lines_of(tmp_path / "x")
    with pytest.raises(ValueError, match=r"a\.lines: it is upside down"):
        aktis.data.read_datasource(Broken(str(tmp_path / "x" / "day=1"))).take_all()

    class Tasks(FileBasedDatasource):
        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            return []

    with pytest.raises(
        TypeError, match=r"Tasks\.get_read_tasks would never be called.*Derive from aktis.data.Datasource"
    ):
        Tasks(str(tmp_path))

    class Ends(RowBasedFileDatasink):
        def on_write_complete(self, write_result): ...

    with pytest.raises(TypeError, match=r"Ends\.on_write_complete would never be called"):
        Ends(str(tmp_path))


def test_each_row_becomes_a_file_that_is_committed_with_the_others(tmp_path):
    folder = tmp_path / "out"
    aktis.data.range(5).write_datasink(Json(str(folder), file_format="json"))
    files = sorted(os.listdir(folder))
    assert len([name for name in files if name.endswith(".json")]) == 5
    assert sorted(row["id"] for row in aktis.data.read_json(str(folder)).take_all()) == list(range(5))

    def fails(row):
        if row["id"] == 4:
            raise ValueError("not this one")
        return row

    with pytest.raises(ValueError, match="not this one"):
        aktis.data.range(5).map(fails).write_datasink(Json(str(folder), file_format="json", mode="overwrite"))
    # What was done is kept beside them, for the same job.
    assert sorted(name for name in os.listdir(folder) if name.endswith(".json")) == files
    with pytest.raises(ValueError, match="the folder has files already"):
        aktis.data.range(5).write_datasink(Json(str(folder), mode="error"))


def test_rows_of_a_file_are_written_at_once(tmp_path):
    folder = tmp_path / "out"
    ds = aktis.data.range(10, override_num_blocks=5)
    ds.write_datasink(Tables(str(folder), file_format="parquet", min_rows_per_file=10))
    (name,) = [name for name in os.listdir(folder) if name.endswith("parquet")]
    assert parquet.read_table(folder / name).column("id").to_pylist() == list(range(10))

    class Packed(Tables):
        def write_block_to_file(self, block, file):
            file.write(str(block.num_rows()).encode())

    class Named(FilenameProvider):
        def get_filename_for_task(self, write_uuid, task_index):
            return f"rows-{write_uuid}-{task_index}.gz"

    packed = tmp_path / "packed"
    aktis.data.range(3).write_datasink(
        Packed(str(packed), open_stream_args={"compression": "gzip"}, filename_provider=Named())
    )
    names = [name for name in os.listdir(packed) if name.startswith("rows-")]
    assert sum(int(gzip.decompress((packed / name).read_bytes())) for name in names) == 3


def test_own_files_are_one_of_several_outputs_of_a_job(tmp_path):
    ds = aktis.data.range(4)
    with aktis.data.run_together():
        ds.write_datasink(Json(str(tmp_path / "rows"), file_format="json"))
        ds.write_parquet(str(tmp_path / "table"))
    assert aktis.data.read_json(str(tmp_path / "rows")).count() == 4
    assert aktis.data.read_parquet(str(tmp_path / "table")).count() == 4


def test_modules_are_where_scripts_for_ray_have_them():
    from aktis.data.datasource import datasink, datasource, file_based_datasource, file_datasink, filename_provider

    assert (datasink.Datasink, datasource.ReadTask) == (aktis.data.Datasink, aktis.data.ReadTask)
    assert file_based_datasource.FileBasedDatasource is FileBasedDatasource
    assert file_datasink.RowBasedFileDatasink is RowBasedFileDatasink
    assert filename_provider.FilenameProvider is FilenameProvider


def test_block_accessor_gives_blocks_in_each_form():
    table = pyarrow.table({"x": [1, 2, 3], "y": ["a", None, "c"]})
    accessor = BlockAccessor.for_block(table)
    assert (accessor.num_rows(), accessor.schema(), accessor.to_block() is table) == (3, table.schema, True)
    assert accessor.to_pandas().equals(accessor.to_batch_format("pandas")) and accessor.size_bytes() == table.nbytes
    assert accessor.to_numpy("x").tolist() == [1, 2, 3] and list(accessor.to_numpy(["x"])) == ["x"]
    assert list(accessor.iter_rows(public_row_format=False)) == table.to_pylist()
    assert accessor.slice(1, 3, copy=True).to_pylist() == table.to_pylist()[1:]
    assert BlockAccessor.for_block(pandas.DataFrame({"x": [1]})).to_arrow().to_pydict() == {"x": [1]}
    with pytest.raises(AttributeError, match=r"BlockAccessor\.zip of Ray is not in Aktis: use to_arrow\(\)"):
        getattr(accessor, "zip")  # noqa: B009

    class Buffers(Datasink[bytes]):
        """A sink as scripts for Ray have it."""

        def write(self, blocks, ctx):
            out = io.BytesIO()
            for block in blocks:
                BlockAccessor.for_block(block).to_pandas().to_csv(out, index=False, header=False)
            return out.getvalue()

        def on_write_complete(self, write_result):
            self.written = write_result.write_returns

    sink = Buffers()
    aktis.data.range(2).write_datasink(sink)
    assert b"".join(sink.written) == b"0\n1\n"
    assert pickle.loads(pickle.dumps(accessor)).to_arrow().equals(table)


class Unsteady(RowBasedFileDatasink):
    """Begins each file as often as it is told in vain, and notes that."""

    def __init__(self, path, notes, failures, number, **options):
        super().__init__(path, **options)
        self.notes, self.failures, self.number = notes, failures, number

    def write_row_to_file(self, row, file):
        note = self.notes / str(row["id"])
        tries = len(note.read_text()) if note.exists() else 0
        note.write_text("x" * (tries + 1))
        if tries < self.failures:
            file.write(b"half of what is longer than the whole")
            raise OSError(self.number, os.strerror(self.number))
        file.write(b"row %d" % row["id"])


def test_file_that_could_not_be_written_for_a_moment_is_written_again_from_its_beginning(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    aktis.data.range(3).write_datasink(Unsteady(tmp_path / "out", notes, 2, errno.EIO, file_format="txt"))
    assert sorted(path.read_text() for path in (tmp_path / "out").glob("*.txt")) == ["row 0", "row 1", "row 2"]
    assert [len(path.read_text()) for path in notes.iterdir()] == [3, 3, 3]


@pytest.mark.parametrize(
    ("number", "tries", "kind", "said"),
    [(errno.EIO, 4, OSError, r"tried 4 times"), (errno.EACCES, 1, PermissionError, r"Permission denied")],
)
def test_file_that_cannot_be_written_is_named_after_as_many_tries_as_may_help(tmp_path, number, tries, kind, said):
    notes = tmp_path / "notes"
    notes.mkdir()
    with pytest.raises(kind, match=rf"write_datasink\(\): write .*\.txt: .*{said}"):
        aktis.data.range(1).write_datasink(Unsteady(tmp_path / "out", notes, 99, number, file_format="txt"))
    assert len((notes / "0").read_text()) == tries
    assert list((tmp_path / "out").glob("*.txt")) == []
