"""Text, binary files, images and arrays."""

import bz2

import aktis
import aktis.data
import numpy
import pyarrow
import pytest
from pyarrow import parquet


def test_chosen_columns_come_with_the_path_that_is_asked_for_besides(tmp_path):
    parquet.write_table(pyarrow.table({"id": [1], "x": [2]}), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    ds = aktis.data.read_parquet(path, columns=["id"], include_paths=True)
    assert ds.take_all() == [{"id": 1, "path": path}]
    ds = aktis.data.read_parquet(path, columns=["path", "x"], include_paths=True)
    assert ds.columns() == ["path", "x"]


def test_lines_of_text_are_rows_and_empty_ones_are_not(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\r\nthree", newline="")
    ds = aktis.data.read_text(tmp_path)
    assert ds.take_all() == [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    assert ds.schema().names == ["text"]
    kept = aktis.data.read_text(tmp_path, drop_empty_lines=False)
    assert [row["text"] for row in kept.take_all()] == ["one", "", "  ", "two", "three"]


def test_large_text_is_read_in_parts_in_order(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"zeile {n} ä\n" for n in range(150_000)))
    for parts in (None, 5):
        ds = aktis.data.read_text(tmp_path / "a.txt", override_num_blocks=parts)
        assert [row["text"] for row in ds.take_all()] == [f"zeile {n} ä" for n in range(150_000)]


def test_text_of_other_encodings(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ok\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"read {path}, line 2: it is not utf-8.*encoding='latin-1'"):
        aktis.data.read_text(path).take_all()
    assert aktis.data.read_text(path, encoding="latin-1").take_all()[1] == {"text": "café"}
    path.write_bytes("ok\ncafé".encode("utf-16"))
    assert aktis.data.read_text(path, encoding="utf-16").take_all()[1] == {"text": "café"}
    with pytest.raises(LookupError):
        aktis.data.read_text(path, encoding="utf-99")


def test_binary_files_are_rows_and_counted_without_reading(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * number)
    ds = aktis.data.read_binary_files(tmp_path, include_paths=True)
    assert ds.count() == 5 and ds.stats() == "", "nothing has run"
    assert ds.take_all()[2] == {"bytes": b"\x02\x02", "path": str(tmp_path / "2.bin")}
    assert ds.schema().names == ["bytes", "path"]
    assert ds.select_columns(["path"]).take(1) == [{"path": str(tmp_path / "0.bin")}]


def test_compressed_binary_files_come_as_they_were(tmp_path):
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"plain"))
    assert aktis.data.read_binary_files(tmp_path).take_all() == [{"bytes": b"plain"}]
    as_is = aktis.data.read_binary_files(tmp_path, arrow_open_stream_args={"compression": None})
    assert as_is.take_all() == [{"bytes": bz2.compress(b"plain")}]


def test_batches_are_whole_though_every_file_is_a_row(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:03}").write_bytes(b"x" * 10)
    ds = aktis.data.read_binary_files(tmp_path).map_batches(
        lambda batch: {"rows": [len(batch["bytes"])]}, batch_size=32
    )
    assert sorted(row["rows"] for row in ds.take_all()) == [4, 32, 32, 32]


def test_folders_tell_columns_of_binary_files_if_asked(tmp_path):
    (tmp_path / "label=cat").mkdir()
    (tmp_path / "label=cat" / "a").write_bytes(b"x")
    assert aktis.data.read_binary_files(tmp_path).columns() == ["bytes"]
    ds = aktis.data.read_binary_files(tmp_path, partitioning="hive")
    assert ds.take_all() == [{"bytes": b"x", "label": "cat"}]
    assert ds.filter(expr="label = 'dog'").count() == 0


def test_arrays_are_read_row_by_row(tmp_path):
    array = numpy.arange(60, dtype=numpy.float32).reshape(10, 2, 3)
    numpy.save(tmp_path / "a.npy", array)
    ds = aktis.data.read_numpy(tmp_path)
    batch = ds.take_batch(10)["data"]
    assert (batch == array).all() and batch.dtype == numpy.float32
    assert ds.count() == 10
    assert aktis.data.read_numpy(tmp_path, include_paths=True).take(1)[0]["path"] == str(tmp_path / "a.npy")


def test_large_array_comes_in_batches(tmp_path):
    numpy.save(tmp_path / "a.npy", numpy.arange(3_000_000))
    ds = aktis.data.read_numpy(tmp_path)
    assert ds.sum("data") == sum(range(3_000_000))


def test_broken_arrays_are_named(tmp_path):
    path = tmp_path / "a.npy"
    for data in (b"", b"no array", numpy.lib.format.MAGIC_PREFIX):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=str(path)):
            aktis.data.read_numpy(path).take_all()
    numpy.save(path, numpy.arange(1000))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=str(path)):
        aktis.data.read_numpy(path).take_all()
    numpy.save(path, numpy.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        aktis.data.read_numpy(path).take_all()
    assert aktis.data.read_numpy(path, allow_pickle=True).take_all() == [{"data": {"a": 1}}]
    numpy.save(path, numpy.array(3))
    with pytest.raises(ValueError, match="a single value"):
        aktis.data.read_numpy(path).take_all()


@pytest.fixture
def images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "images"
    folder.mkdir()
    image.fromarray(numpy.full((4, 6, 3), 200, numpy.uint8)).save(folder / "a.png")
    image.fromarray(numpy.full((8, 5), 100, numpy.uint8)).save(folder / "b.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_are_arrays_of_their_shapes(images):
    rows = aktis.data.read_images(images, include_paths=True).take_all()
    assert [row["image"].shape for row in rows] == [(4, 6, 3), (8, 5)]
    assert rows[0]["image"].dtype == numpy.uint8 and rows[0]["image"].max() == 200
    assert rows[1]["path"] == str(images / "b.png")
    assert aktis.data.read_images(images).count() == 2


def test_images_of_one_size_and_mode_are_one_array(images):
    ds = aktis.data.read_images(images, size=(3, 2), mode="RGB")
    batch = ds.take_batch(2)["image"]
    assert batch.shape == (2, 3, 2, 3) and batch.dtype == numpy.uint8
    means = ds.map_batches(lambda batch: {"mean": batch["image"].mean(axis=(1, 2, 3))}, batch_size=2)
    assert [row["mean"] for row in means.take_all()] == [200.0, 100.0]


def test_broken_image_is_named_or_passed_over(images):
    (images / "c.png").write_bytes((images / "a.png").read_bytes()[:40])
    (images / "d.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"[cd]\.(png|jpg): it is broken, or not an image"):
        aktis.data.read_images(images).take_all()
    ds = aktis.data.read_images(images, errors="ignore")
    assert len(ds.take_all()) == ds.count() == 2


def test_arguments_of_images_are_checked_at_once(images):
    with pytest.raises(ValueError, match="height and width"):
        aktis.data.read_images(images, size=(0, 3))
    with pytest.raises(ValueError, match="size must be height and width, two numbers of at least 1, not 5"):
        aktis.data.read_images(images, size=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="none of Pillow's modes"):
        aktis.data.read_images(images, mode="RGBX7")
    with pytest.raises(ValueError, match="'raise' or 'ignore'"):
        aktis.data.read_images(images, errors="skip")  # pyright: ignore[reportArgumentType]


def test_plan_of_files_travels(tmp_path):
    import pickle

    (tmp_path / "a.txt").write_text("one\n")
    ds = pickle.loads(pickle.dumps(aktis.data.read_text(tmp_path)))
    assert ds.take_all() == [{"text": "one"}]


def test_parquet_has_the_arguments_of_other_files(words, tmp_path):
    ds = aktis.data.read_parquet(words, include_paths=True)
    assert ds.schema().names == ["id", "word", "data", "path"]
    second = str(words / "part-1.parquet")
    filtered = ds.filter(expr=f"path = '{second}'").select_columns(["id", "path"])
    assert filtered.count() == 1000 and filtered.take(1) == [{"id": 1000, "path": second}]
    missing = [tmp_path / "no.parquet", words]
    assert aktis.data.read_parquet(missing, ignore_missing_paths=True).count() == 2000
    chosen = aktis.data.read_parquet(words, partition_filter=lambda paths: [p for p in paths if "part-0" in p])
    assert chosen.count() == 1000
    assert aktis.data.read_parquet(words, shuffle="files").count() == 2000
    first = str(words / "part-0.parquet")
    assert aktis.data.read_parquet(words, skip_paths=first).count() == 1000
    assert aktis.data.read_parquet([first, words], skip_paths=[first, str(tmp_path / "no")]).count() == 1000
    with pytest.raises(ValueError, match="skip_paths leaves no file"):
        aktis.data.read_parquet(words, skip_paths=str(words))
    with pytest.raises(NotImplementedError, match="include_row_hash"):
        aktis.data.read_parquet(words, include_row_hash=True)  # pyright: ignore[reportArgumentType]
    own = tmp_path / "own.parquet"
    aktis.data.from_arrow(pyarrow.table({"path": ["mine"]})).write_parquet(own)
    with pytest.raises(ValueError, match="a column 'path' of their own"):
        aktis.data.read_parquet(own, include_paths=True)
