"""Arrow's IPC format: files, which are Feather files as well, and streams."""

import gzip
import io

import aktis.data
import numpy
import pyarrow
import pytest
from pyarrow import feather, ipc


def as_stream(table):
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.fixture
def table():
    """Columns of more kinds than other formats have words for."""
    return pyarrow.table({
        "id": pyarrow.array(range(1000), pyarrow.uint16()),
        "word": pyarrow.array([f"w{n % 3}" for n in range(1000)]).dictionary_encode(),
        "when": pyarrow.array(range(1000), pyarrow.timestamp("ns", "Europe/Oslo")),
        "lists": [[n, None] for n in range(1000)],
    })  # fmt: skip


def test_files_feather_and_streams_are_read_with_their_types(table, tmp_path):
    feather.write_feather(table, tmp_path / "a.feather", chunksize=100)
    (tmp_path / "b.arrows").write_bytes(as_stream(table))
    (tmp_path / "c.arrow.gz").write_bytes(gzip.compress(as_stream(table)))
    for name in ("a.feather", "b.arrows", "c.arrow.gz"):
        ds = aktis.data.read_arrow(tmp_path / name)
        assert ds.take_all() == table.to_pylist()
        assert ds.schema().types[0] == pyarrow.uint16() and ds.schema().types[2] == table.schema.types[2]
    assert aktis.data.read_arrow(tmp_path, include_paths=True).count() == 2000, "the folder has two by their endings"


def test_files_without_rows_have_columns(table, tmp_path):
    empty = table.schema.empty_table()
    feather.write_feather(empty, tmp_path / "a.feather")
    (tmp_path / "b.arrow").write_bytes(as_stream(empty))
    ds = aktis.data.read_arrow(tmp_path)
    assert ds.take_all() == [] and ds.columns() == table.column_names


def test_files_that_are_cut_off_or_of_another_format_are_named(table, tmp_path):
    feather.write_feather(table, tmp_path / "whole.feather", compression="uncompressed")
    data = (tmp_path / "whole.feather").read_bytes()
    (tmp_path / "old.feather").write_bytes(b"FEA1" + data + b"FEA1")
    (tmp_path / "cut.arrow").write_bytes(data[: len(data) // 2])
    (tmp_path / "stream.arrow").write_bytes(as_stream(table)[:3000])
    (tmp_path / "other.arrow").write_bytes(b"id,word\n1,x\n")
    for name in ("cut.arrow", "stream.arrow", "other.arrow"):
        with pytest.raises((ValueError, OSError), match=name):
            aktis.data.read_arrow(tmp_path / name).take_all()
    with pytest.raises(ValueError, match=r"old.feather: it is a Feather file of version 1: read it with"):
        aktis.data.read_arrow(tmp_path / "old.feather").take_all()


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_rows_are_written_as_others_read_them(compression, tmp_path):
    ds = aktis.data.range(1000).map_batches(
        lambda batch: {"id": batch["id"], "vector": numpy.ones((len(batch["id"]), 2))}
    )
    ds.write_arrow(tmp_path / "out", compression=compression)
    rows = [row for file in (tmp_path / "out").iterdir() for row in feather.read_table(file).to_pylist()]
    assert sorted(row["id"] for row in rows) == list(range(1000)) and rows[0]["vector"] == [1.0, 1.0]
    assert aktis.data.read_arrow(tmp_path / "out").count() == 1000
    aktis.data.range(0).write_arrow(tmp_path / "none")
    assert aktis.data.read_arrow(tmp_path / "none").columns() == ["id"]


def test_compression_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match="it is 'lz4', 'zstd' or None"):
        aktis.data.range(1).write_arrow(tmp_path, compression="gzip")  # pyright: ignore[reportArgumentType]


def test_words_of_later_batches_are_added_to_the_dictionary_of_a_file(tmp_path):
    def words(batch):
        texts = [f"w{number // 7}" if number % 5 else None for number in batch["id"]]
        return pyarrow.table({"id": batch["id"], "word": pyarrow.array(texts, pyarrow.string()).dictionary_encode()})

    aktis.data.range(100, override_num_blocks=1).map_batches(words, batch_size=9).write_arrow(tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.arrow")
    written = ipc.open_file(pyarrow.memory_map(str(file))).read_all().sort_by("id")
    assert written["word"].to_pylist() == [f"w{number // 7}" if number % 5 else None for number in range(100)]
    assert pyarrow.types.is_dictionary(written["word"].type)


def test_dictionaries_inside_of_lists_that_differ_are_refused_with_the_way_out(tmp_path):
    def words(batch):
        values = pyarrow.array([f"w{number}" for number in batch["id"]]).dictionary_encode()
        return pyarrow.table({"words": pyarrow.ListArray.from_arrays(range(len(values) + 1), values)})

    ds = aktis.data.range(20, override_num_blocks=1).map_batches(words, batch_size=10)
    with pytest.raises(ValueError, match="cast that column to the type of its values"):
        ds.write_arrow(tmp_path / "out")
