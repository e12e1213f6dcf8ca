"""Files that are compressed, with each codec that pyarrow and Ray take, and with xz."""

import bz2
import io
import json
import lzma
import tarfile

import aktis.data
import pyarrow
import pytest
from aktis.data._formats import compressed
from pyarrow import parquet

ENDINGS = {
    "gzip": "gz", "bz2": "bz2", "zstd": "zst", "brotli": "br", "lz4": "lz4", "snappy": "snappy", "xz": "xz",
}  # fmt: skip
#: As python-snappy writes it: `stream_compress`.
SNAPPY = bytes.fromhex(
    "ff060000734e6150705901240000da50704269642c776f72640a312c6f6e650a322c6f6e65206f6e65206f6e65206f6e650a"
)
ROWS = [{"id": number, "word": f"word {number}"} for number in range(30_000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = "".join(["id,word\n", *(f"{row['id']},{row['word']}\n" for row in ROWS)]).encode()


def pack(path, data, codec):
    if codec == "xz":
        path.write_bytes(lzma.compress(data))
    elif codec == "snappy":
        with compressed.written(str(path), codec) as file:
            file.write(data)
    else:
        with pyarrow.CompressedOutputStream(pyarrow.OSFile(str(path), "wb"), codec) as file:
            file.write(data)


@pytest.mark.parametrize("codec", ENDINGS)
def test_files_are_unpacked_by_their_names_or_by_what_is_said(tmp_path, codec):
    ending = ENDINGS[codec]
    for name, data in (("a.csv", TABLE), ("a.jsonl", LINES), ("plain", LINES)):
        pack(tmp_path / (name if name == "plain" else f"{name}.{ending}"), data, codec)
    assert aktis.data.read_csv(tmp_path / f"a.csv.{ending}").take_all() == ROWS
    assert aktis.data.read_json(tmp_path / f"a.jsonl.{ending}").take_all() == ROWS
    text = aktis.data.read_text(tmp_path / f"a.csv.{ending}")
    assert (text.count(), text.take(1)) == (30_001, [{"text": "id,word"}])
    (row,) = aktis.data.read_binary_files(tmp_path / f"a.jsonl.{ending}").take_all()
    assert row["bytes"] == LINES
    said = aktis.data.read_json(tmp_path / "plain", arrow_open_stream_args={"compression": codec.upper()})
    assert said.count() == len(ROWS)
    as_it_is = aktis.data.read_binary_files(tmp_path / "plain", arrow_open_stream_args={"compression": None})
    assert as_it_is.take_all()[0]["bytes"] == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("codec", ENDINGS)
def test_files_are_written_compressed_for_everybody(tmp_path, codec):
    rows = aktis.data.from_items(ROWS)
    for name, write in (("csv", rows.write_csv), ("json", rows.write_json)):
        write(str(tmp_path / name), arrow_open_stream_args={"compression": codec})
        (path,) = (tmp_path / name).glob(f"*.{name}.{ENDINGS[codec]}")
        data = path.read_bytes()
        if codec == "snappy":
            with compressed.unpacked(pyarrow.BufferReader(data), codec) as file:
                data = file.read()
        elif codec == "xz":
            data = lzma.decompress(data)
        else:
            with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), codec) as file:
                data = file.read()
        if name == "json":
            assert [json.loads(line) for line in data.splitlines()] == ROWS
        else:
            assert data.replace(b'"', b"") == TABLE


def test_frames_of_snappy_are_those_of_other_writers(tmp_path):
    (tmp_path / "a.csv.snappy").write_bytes(SNAPPY)
    rows = [{"id": 1, "word": "one"}, {"id": 2, "word": "one one one one"}]
    assert aktis.data.read_csv(tmp_path / "a.csv.snappy").take_all() == rows
    with compressed.written(str(tmp_path / "own"), "snappy") as file:
        file.write(b"id,word\n1,one\n2,one one one one\n")
    with compressed.unpacked(pyarrow.OSFile(str(tmp_path / "own")), "snappy") as file:
        assert file.read() == b"id,word\n1,one\n2,one one one one\n"


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("cut.csv.snappy", SNAPPY[:-3], "snappy decompression failed: it is cut off"),
        ("changed.csv.snappy", SNAPPY[:-3] + b"x" + SNAPPY[-2:], "snappy decompression failed: a checksum is wrong"),
        ("hadoop.csv.snappy", b"\x00\x00\x00\x20" * 5, "snappy decompression failed: .* Hadoop's and raw blocks"),
        ("odd.csv.snappy", SNAPPY[:10] + b"\x05\x00\x00\x00", "a frame of the unknown kind 5"),
        ("cut.csv.xz", lzma.compress(TABLE)[:-500], "xz decompression failed"),
        ("other.csv.xz", TABLE, "xz decompression failed"),
        ("other.csv.gz", bz2.compress(TABLE), "inflate failed"),
    ],
)
def test_damaged_files_are_named_with_what_helps(tmp_path, name, data, why):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(OSError, match=rf"{name}: .*{why}.*arrow_open_stream_args="):
        aktis.data.read_csv(tmp_path / name).take_all()


def test_compression_that_is_none_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    for codec in ("rar", "lz4_raw", 7):
        with pytest.raises(
            ValueError, match=rf"read_csv\(\): compression={codec!r} is not known; there are gzip, .*xz"
        ):
            aktis.data.read_csv(tmp_path / "a.csv", arrow_open_stream_args={"compression": codec})


def test_archives_may_be_compressed_with_xz_too(tmp_path):
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        member = tarfile.TarInfo("1.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"one"))
    assert aktis.data.read_webdataset(tmp_path).take_all()[0]["txt"] == "one"


CODECS = ["snappy", "gzip", "brotli", "zstd", "lz4", "none"]


@pytest.mark.parametrize("codec", CODECS)
def test_parquet_files_of_each_codec_are_read_and_written(tmp_path, codec):
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "theirs.parquet", compression=codec)
    theirs = aktis.data.read_parquet(tmp_path / "theirs.parquet")
    assert theirs.take_all() == ROWS
    theirs.write_parquet(str(tmp_path / "ours"), compression=codec)
    (path,) = (tmp_path / "ours").glob("*.parquet")
    assert parquet.read_table(path).to_pylist() == ROWS
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.compression == ("UNCOMPRESSED" if codec == "none" else codec.upper())


def test_brotli_has_levels(tmp_path):
    rows = aktis.data.from_items(ROWS)
    sizes = []
    for level in (0, 11):
        rows.write_parquet(str(tmp_path / str(level)), compression="brotli", compression_level=level)
        (path,) = (tmp_path / str(level)).glob("*.parquet")
        assert parquet.read_table(path).to_pylist() == ROWS
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] * 0.8
    with pytest.raises(ValueError, match=r'write_parquet\(compression="brotli"\): .*0..=11'):
        rows.write_parquet(str(tmp_path / "more"), compression="brotli", compression_level=12)
    with pytest.raises(ValueError, match=r'write_parquet\(compression="bz2"\): it must be snappy, zstd, gzip, brotli'):
        rows.write_parquet(str(tmp_path / "more"), compression="bz2")
