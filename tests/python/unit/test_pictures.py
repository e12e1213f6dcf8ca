"""Small pictures of arrays and of encoded images."""

import base64
import io
import sys

import numpy
import pytest
from aktis.data import _pictures
from aktis.data._notebook import cell, rows_html


def decoded(uri):
    """The pixels of a data URI of a PNG, read by the rules of the format, with no library that might be kinder."""
    import struct
    import zlib

    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, {}
    while position < len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        position += 12 + length
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0]) and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    lines = numpy.frombuffer(zlib.decompress(chunks[b"IDAT"]), numpy.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, {0: 1, 2: 3, 6: 4}[colour])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bytes_are_shown_as_they_are_with_channels_last_or_first(channels):
    pixels = numpy.random.default_rng(1).integers(0, 256, (20, 30, channels), numpy.uint8)
    assert numpy.array_equal(decoded(_pictures.of_array(pixels)), pixels)
    assert numpy.array_equal(decoded(_pictures.of_array(pixels.transpose(2, 0, 1))), pixels)


def test_large_pictures_are_made_small():
    small = decoded(_pictures.of_array(numpy.zeros((1000, 500, 3), numpy.uint8)))
    height, width, _ = small.shape
    assert _pictures.SIDE // 2 <= height <= _pictures.SIDE and abs(height - 2 * width) <= 2


@pytest.mark.parametrize(
    ("array", "least", "greatest"),
    [
        (numpy.full((8, 8), 0.5), 127, 127),
        (numpy.linspace(-3, 9, 64).reshape(8, 8), 0, 255),
        (numpy.arange(64).reshape(8, 8) - 10**12, 0, 255),
        (numpy.eye(8, dtype=bool), 0, 255),
        (numpy.full((8, 8), numpy.nan), 0, 0),
        (numpy.full((8, 8), numpy.inf), 0, 255),
        (numpy.full((8, 8), 7), 0, 0),
    ],
)
def test_numbers_are_spread_from_black_to_white(array, least, greatest):
    pixels = decoded(_pictures.of_array(array))
    assert least <= pixels.min() and pixels.max() <= greatest
    assert len(numpy.unique(array)) == 1 or (pixels.min(), pixels.max()) == (least, greatest)


@pytest.mark.parametrize("shape", [(), (0,), (384,), (2, 2), (20, 20, 2), (0, 20, 3), (2, 3, 20, 20)])
def test_what_is_no_picture_is_said_in_numbers(shape):
    array = numpy.ones(shape, numpy.float32)
    assert _pictures.of_array(array) is None
    assert "<img" not in cell(array) and f"float32 {shape}" in cell(array)
    assert _pictures.of_array(numpy.full((20, 20), "text")) is None


def test_encoded_images_are_shown_as_they_are():
    png = _pictures.png(numpy.zeros((9, 9, 3), numpy.uint8))
    for value in (png, {"bytes": png, "path": "a.png"}):
        assert f'src="data:image/png;base64,{base64.b64encode(png).decode()}"' in cell(value)
    for data, kind in ((b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF87a..", "gif"), (b"RIFF....WEBP", "webp")):
        assert f"data:image/{kind};base64," in cell(data)
    assert "<img" not in cell(b"<svg onload=alert(1)>") and "&lt;svg" in cell(b"<svg onload=alert(1)>")


def test_large_images_need_pillow_and_damaged_ones_do_no_harm(monkeypatch):
    large = _pictures.png(numpy.random.default_rng(1).integers(0, 256, (200, 400, 3), numpy.uint8))
    assert len(large) > _pictures.MOST_BYTES
    damaged = large[:100] + bytes(_pictures.MOST_BYTES)
    assert "<img" not in cell(damaged) and "image/png" in cell(damaged)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "<img" not in cell(large) and f"image/png, {len(large):,} bytes" in cell(large)
    monkeypatch.undo()
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is no requirement")
    small = base64.b64decode(_pictures.of_bytes(large).partition(",")[2])
    assert pillow.open(io.BytesIO(small)).size == (96, 48)


def test_values_of_all_kinds_are_cut_and_escaped():
    assert "<" not in cell("<" * 1000).replace("&lt;", "") and len(cell("x" * 1000)) < 300
    assert "1,000 bytes" in cell(bytes(1000)) and "None" in cell(None)
    assert "<b>" not in rows_html([{"<b>": {"<b>": "<b>"}}, {"other": ["<b>"]}]).replace("<b></b>", "")
    assert "no rows" in rows_html([])
