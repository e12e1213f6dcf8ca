"""TFRecords and webdatasets, written as others read them."""

import io
import random
import tarfile

import aktis.data
import numpy
import pytest
from aktis.data._formats.crc32c import masked_crc, masked_crcs


def test_checksums_side_by_side_are_those_one_by_one():
    wide = random.Random(7).randbytes
    messages = [wide(size) for size in (0, 1, 1023, 1024, 1025, 5000, 100_000)]
    assert masked_crcs(messages) == [masked_crc(message) for message in messages]


def test_records_come_back_with_values_lists_and_nothing(tmp_path):
    rows = [
        {
            "id": -n,
            "word": f"w{n}" * (n % 3),
            "data": bytes([n % 256]) * n,
            "share": n / 2,
            "is": n % 2 == 0,
            "many": [n] * (2 + n % 3),
        }
        for n in range(300)
    ]
    rows[5]["word"] = None
    ds = aktis.data.from_items(rows, override_num_blocks=3)
    ds.write_tfrecords(tmp_path / "out")
    ds.write_tfrecords(tmp_path / "packed", arrow_open_stream_args={"compression": "gzip"})
    expected = [
        {**row, "word": None if row["word"] is None else row["word"].encode(), "is": int(row["is"])} for row in rows
    ]
    for folder, ending in (("out", ".tfrecords"), ("packed", ".tfrecords.gz")):
        assert all(path.name.endswith(ending) for path in (tmp_path / folder).iterdir())
        back = aktis.data.read_tfrecords(tmp_path / folder).take_all()
        assert sorted(back, key=lambda row: -row["id"]) == expected


def test_columns_that_features_have_no_place_for_are_named(tmp_path):
    with pytest.raises(ValueError, match="the column 'at' is of type struct"):
        aktis.data.from_items([{"at": {"x": 1}}]).write_tfrecords(tmp_path)
    with pytest.raises(ValueError, match="a list of the column 'many' has null in it"):
        aktis.data.from_items([{"many": [1, None]}]).write_tfrecords(tmp_path)
    with pytest.raises(NotImplementedError, match="tf_schema"):
        aktis.data.range(1).write_tfrecords(tmp_path, tf_schema=object())  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == [] or not any(path.suffix == ".tfrecords" for path in tmp_path.iterdir())


def test_samples_come_back_as_the_names_of_columns_say(tmp_path):
    rows = [
        {"__key__": f"k{n:03}", "txt": f"ä{n}", "cls": n, "json": {"n": [n]}, "npy": numpy.full(3, n), "bin": b"x"}
        for n in range(100)
    ]
    aktis.data.from_items(rows, override_num_blocks=2).write_webdataset(tmp_path)
    back = sorted(aktis.data.read_webdataset(tmp_path).take_all(), key=lambda row: row["__key__"])
    for row, made in zip(rows, back, strict=True):
        assert (made["npy"] == row["npy"]).all()
        assert {name: made[name] for name in ("__key__", "txt", "cls", "json", "bin")} == {
            name: row[name] for name in ("__key__", "txt", "cls", "json", "bin")
        }


def test_rows_without_keys_get_some_and_encoders_make_bytes(tmp_path):
    def encode(sample):
        return {"n.txt": str(sample["n"])}

    aktis.data.from_items([{"n": n} for n in range(50)], override_num_blocks=2).write_webdataset(
        tmp_path, encoder=encode
    )
    members = []
    for path in tmp_path.glob("*.tar"):
        with tarfile.open(path) as archive:
            members += archive.getnames()
    assert len(set(members)) == 50 and all(name.endswith(".n.txt") for name in members)
    (tmp_path / "none").mkdir()
    with pytest.raises(TypeError, match="'n' has values of type int"):
        aktis.data.from_items([{"n": 1}]).write_webdataset(tmp_path / "none")
    with pytest.raises(ValueError, match=r"'a\.b' is no key"):
        aktis.data.from_items([{"__key__": "a.b", "txt": "x"}]).write_webdataset(tmp_path / "none")
    with pytest.raises(ValueError, match="two rows have the key 'a'"):
        aktis.data.from_items([{"__key__": "a", "txt": "x"}] * 2).write_webdataset(tmp_path / "none")
    with pytest.raises(TypeError, match="takes True, a function"):
        aktis.data.range(1).write_webdataset(tmp_path, encoder="png")


def test_images_of_samples_are_encoded(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: requirements-formats.txt")
    pixels = numpy.arange(48, dtype=numpy.uint8).reshape(4, 4, 3)
    aktis.data.from_items([{"__key__": "a", "png": pixels}]).write_webdataset(tmp_path)
    (path,) = tmp_path.glob("*.tar")
    with tarfile.open(path) as archive:
        data = archive.extractfile("a.png").read()
    assert (numpy.array(image.open(io.BytesIO(data))) == pixels).all()
