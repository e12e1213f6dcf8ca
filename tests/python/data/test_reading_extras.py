"""Formats that need a package of their own: read where it is there, refused with the command that installs it where it is not."""

import io
import struct
import sys
import wave

import aktis.data
import numpy
import pyarrow
import pytest
from aktis.data._formats.crc32c import masked_crc


def varint(number):
    data = b""
    while number >= 0x80:
        data, number = data + bytes([number & 0x7F | 0x80]), number >> 7
    return data + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def record(**features):
    """A record of `tf.train.Example`, as TensorFlow writes it."""
    entries = b""
    for name, values in features.items():
        if not values or isinstance(values[0], bytes):
            kind, data = 1, b"".join(field(1, value) for value in values)
        elif isinstance(values[0], float):
            kind, data = 2, field(1, struct.pack(f"<{len(values)}f", *values))
        else:
            kind, data = 3, field(1, b"".join(varint(value % (1 << 64)) for value in values))
        entries += field(1, field(1, name.encode()) + field(2, field(kind, data)))
    message = field(1, entries)
    length = struct.pack("<Q", len(message))
    checksums = [struct.pack("<I", masked_crc(data)) for data in (length, message)]
    return length + checksums[0] + message + checksums[1]


def test_tfrecords_have_values_and_lists_and_nothing(tmp_path):
    records = [
        record(id=[1], name=[b"one"], weights=[0.5, 1.5], empty=[]),
        record(id=[-2], name=[], weights=[2.5]),
    ]
    (tmp_path / "a.tfrecords").write_bytes(b"".join(records))
    rows = aktis.data.read_tfrecords(tmp_path).take_all()
    assert rows == [
        {"id": 1, "name": b"one", "weights": [0.5, 1.5]},
        {"id": -2, "name": None, "weights": [2.5]},
    ]


def test_tfrecords_that_are_cut_off_or_none_are_named(tmp_path):
    whole = record(id=[1])
    for number, data in enumerate((whole[:-6], whole[:7], b"something else that is long enough")):
        path = tmp_path / f"{number}.tfrecords"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{number}.tfrecords: it is (cut off|damaged)"):
            aktis.data.read_tfrecords(path).take_all()


def test_checksum_is_that_of_the_format():
    # The check value of CRC-32C, as its catalogues have it, masked.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("function", "module", "package"),
    [
        ("read_avro", "fastavro", "fastavro"),
        ("read_mcap", "mcap.reader", "mcap"),
        ("read_audio", "soundfile", "soundfile"),
        ("read_videos", "av", "av"),
        ("read_pdfs", "pypdfium2", "pypdfium2"),
        ("read_delta", "deltalake", "deltalake"),
    ],
)
def test_missing_package_is_named_with_the_command_that_installs_it(function, module, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{function}\(\) needs {package}: pip install {package}"):
        getattr(aktis.data, function)(tmp_path)


@pytest.mark.parametrize(
    ("function", "module", "command", "arguments"),
    [
        ("read_iceberg", "pyiceberg.io.pyarrow", r"'pyiceberg\[pyarrow\]'", {"table_identifier": "a.b"}),
        ("read_lance", "lance", "pylance", {"uri": "a"}),
        ("write_iceberg", "pyiceberg.io.pyarrow", r"'pyiceberg\[pyarrow\]'", {"table_identifier": "a.b"}),
        ("write_lance", "lance", "pylance", {"path": "a"}),
        ("write_delta", "deltalake", "deltalake", {"path": "a"}),
    ],
)
def test_missing_package_of_tables_is_named_with_the_command_that_installs_it(
    function, module, command, arguments, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    owner = aktis.data if function.startswith("read_") else aktis.data.range(1)
    with pytest.raises(ImportError, match=rf"{function}\(\) needs .*: pip install {command}"):
        getattr(owner, function)(**arguments)


def test_records_of_avro_files_are_rows(tmp_path):
    fastavro = pytest.importorskip("fastavro")
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "long"}, {"name": "t", "type": ["null", "string"]}],
    }
    rows = [{"id": number, "t": None if number % 3 else f"t{number}"} for number in range(10_000)]
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, rows)
    assert aktis.data.read_avro(tmp_path).take_all() == rows
    (tmp_path / "b.avro").write_bytes(b"no avro")
    with pytest.raises(ValueError, match=r"b.avro: .*(no Avro file|avro)"):
        aktis.data.read_avro(tmp_path / "b.avro").take_all()


def test_sound_is_an_array_of_channels_and_times(tmp_path):
    pytest.importorskip("soundfile")
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(numpy.tile(numpy.array([[16384, -16384]], "<i2"), (100, 1)).tobytes())
    (tmp_path / "a.wav").write_bytes(sink.getvalue())
    (row,) = aktis.data.read_audio(tmp_path).take_all()
    assert row["sample_rate"] == 8000
    assert row["amplitude"].shape == (2, 100)
    assert row["amplitude"].dtype == numpy.float32
    assert (row["amplitude"][0] == 0.5).all() and (row["amplitude"][1] == -0.5).all()
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"b.wav: it is broken"):
        aktis.data.read_audio(tmp_path / "b.wav").take_all()


def test_frames_of_films_are_rows(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            picture = numpy.full((48, 64, 3), 10 * number, numpy.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                film.mux(packet)
        for packet in stream.encode():
            film.mux(packet)
    rows = aktis.data.read_videos(path, include_timestamps=True).take_all()
    assert [row["frame_index"] for row in rows] == list(range(20))
    assert [row["frame"].shape for row in rows] == [(48, 64, 3)] * 20
    assert [round(row["frame_timestamp"], 3) for row in rows] == [number / 10 for number in range(20)]
    assert abs(float(rows[10]["frame"].mean()) - 100) < 10
    (tmp_path / "b.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match=r"b.mp4: it is broken"):
        aktis.data.read_videos(tmp_path / "b.mp4").take_all()


def test_tables_of_delta_are_read_by_version_with_their_types(tmp_path):
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "table")
    first = pyarrow.table({"id": [1, 2], "day": pyarrow.array([10, 20], pyarrow.int32())})
    deltalake.write_deltalake(path, first, partition_by=["day"])
    more = pyarrow.table({"id": [3], "day": pyarrow.array([20], pyarrow.int32()), "note": ["new"]})
    deltalake.write_deltalake(path, more, mode="append", schema_mode="merge")
    deltalake.DeltaTable(path).delete("id = 1")
    dataset = aktis.data.read_delta(path)
    assert sorted(dataset.take_all(), key=lambda row: row["id"]) == [
        {"id": 2, "day": 20, "note": None},
        {"id": 3, "day": 20, "note": "new"},
    ]
    old = aktis.data.read_delta(path, version=0, filter="day = 10")
    assert old.take_all() == [{"id": 1, "day": 10}]
    deltalake.DeltaTable(path).delete()
    assert aktis.data.read_delta(path, columns=["id"]).count() == 0
