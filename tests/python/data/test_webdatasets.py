"""Webdatasets: members of one name are a row."""

import io
import json
import sys
import tarfile
from typing import Any

import aktis
import aktis.data
import numpy
import pytest


def packed(path, members, mode: Any = "w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def members(count):
    for number in range(count):
        yield f"{number:04}.txt", f"text {number}".encode()
        yield f"{number:04}.cls", str(number % 5).encode()
        yield f"{number:04}.json", json.dumps({"n": number}).encode()


def test_members_of_one_name_are_a_row(tmp_path):
    path = packed(tmp_path / "a.tar", members(100))
    rows = aktis.data.read_webdataset(tmp_path).take_all()
    assert rows[7] == {"__key__": "0007", "txt": "text 7", "cls": 2, "json": {"n": 7}, "__url__": path}
    assert [row["__key__"] for row in rows] == [f"{n:04}" for n in range(100)]


def test_arrays_and_images_are_decoded_and_the_rest_stays(tmp_path):
    stream = io.BytesIO()
    numpy.save(stream, numpy.arange(3))
    path = packed(tmp_path / "a.tar", [("a.npy", stream.getvalue()), ("a.bin", b"\xff")])
    (row,) = aktis.data.read_webdataset(path).take_all()
    assert list(row["npy"]) == [0, 1, 2] and row["bin"] == b"\xff"
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(numpy.full((2, 3, 3), 9, numpy.uint8)).save(stream, "png")
    path = packed(tmp_path / "b.tar", [("a.png", stream.getvalue())])
    assert aktis.data.read_webdataset(path).take_all()[0]["png"].shape == (2, 3, 3)


def test_decoders_members_and_endings_may_be_chosen(tmp_path):
    path = packed(tmp_path / "a.tar.gz", members(3), "w:gz")
    plain = aktis.data.read_webdataset(path, decoder=None, suffixes=["txt"]).take(1)
    assert plain == [{"__key__": "0000", "txt": b"text 0", "__url__": path}]
    own = aktis.data.read_webdataset(path, decoder=lambda row: {"size": len(row["txt"])}, fileselect=["*.txt"])
    assert own.take_all() == [{"size": 6}] * 3
    wide = aktis.data.read_webdataset(path, expand_json=True, suffixes=["json"])
    assert [row["n"] for row in wide.take_all()] == [0, 1, 2]
    with pytest.raises(ValueError, match="decoder must be True, None, a function"):
        aktis.data.read_webdataset(path, decoder="PIL")  # pyright: ignore[reportArgumentType]


def test_broken_archives_are_named(tmp_path):
    scattered = packed(tmp_path / "a.tar", [("1.txt", b"x"), ("2.txt", b"x"), ("1.cls", b"1")])
    with pytest.raises(ValueError, match=f"{scattered}: the members of '1' do not stand beside each other"):
        aktis.data.read_webdataset(scattered).take_all()
    path = tmp_path / "b.tar"
    packed(path, members(10))
    whole = path.read_bytes()
    for length in (0, 100, 1024, 2100, 2600, 4096):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{path}: it is no tar file, or was cut off"):
            aktis.data.read_webdataset(path).take_all()
    wrong = packed(tmp_path / "c.tar", [("1.cls", b"x")])
    with pytest.raises(ValueError, match=f"{wrong}, member '1'"):
        aktis.data.read_webdataset(wrong).take_all()
    code = packed(tmp_path / "d.tar", [("1.pkl", b"x")])
    with pytest.raises(ValueError, match="may run code"):
        aktis.data.read_webdataset(code).take_all()


def test_members_of_msgpack_are_values(monkeypatch):
    """The package may not be there: what stands for it is JSON."""
    from types import SimpleNamespace

    from aktis.data._formats import webdataset, write_webdataset

    package = SimpleNamespace(
        packb=lambda value, default: json.dumps(value, default=default).encode(),
        unpackb=lambda data, raw: json.loads(data),
    )
    monkeypatch.setitem(sys.modules, "msgpack", package)
    sample = write_webdataset.encoded({"__key__": "a", "mp": {"x": numpy.arange(2)}})
    assert webdataset.decoded(sample) == {"__key__": "a", "mp": {"x": [0, 1]}}
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r"read_webdataset\(\) needs msgpack: pip install msgpack"):
        webdataset.decoded(sample)
