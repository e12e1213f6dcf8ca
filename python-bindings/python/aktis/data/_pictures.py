"""Small pictures of values: arrays that can be looked at, and bytes that are an image already. Without a library of images."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

#: Pixels of the longer side, at most.
SIDE = 96
#: Smaller arrays are numbers, not pictures.
LEAST_SIDE = 8
#: Images of more bytes are made smaller where Pillow is installed, else only described.
MOST_BYTES = 64 << 10

_CHANNELS = {1: 0, 3: 2, 4: 6}
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def kind_of(data: bytes) -> str | None:
    """The media type of an encoded image, by its first bytes; None: it is something else.

    >>> kind_of(b"GIF89a..."), kind_of(b"text")
    ('image/gif', None)
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)


def of_bytes(data: bytes) -> str | None:
    """An encoded image as a data URI; None if it is none, or too large to be shown."""
    kind = kind_of(data)
    if kind is None:
        return None
    if len(data) <= MOST_BYTES:
        return _uri(kind, data)
    smaller = _smaller(data)
    return None if smaller is None else _uri("image/png", smaller)


def of_array(array: numpy.ndarray) -> str | None:
    """An array as a data URI; None if it does not look like a picture.

    Pictures are arrays of height and width, with 1, 3 or 4 channels behind them or before them. Bytes are colours from 0 to
    255, floats from 0 to 1; other numbers are spread from black to white between the least and the greatest.
    """
    pixels = _pixels(array)
    return None if pixels is None else _uri("image/png", png(pixels))


def _pixels(array: Any) -> Any:
    """Bytes of height, width and channels, few enough to be shown."""
    if array.dtype.kind not in "biuf":
        return None
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in _CHANNELS or min(array.shape[:2]) < LEAST_SIDE:
        return None
    step = -(-max(array.shape[:2]) // SIDE)
    return _colours(array[::step, ::step])


def _colours(array: Any) -> Any:
    import numpy

    if array.dtype == numpy.uint8:
        return array
    if array.dtype == bool:
        return array.astype(numpy.uint8) * 255
    values = array.astype(numpy.float64)
    finite = values[numpy.isfinite(values)]
    least, greatest = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if array.dtype.kind == "f" and least >= 0 and greatest <= 1:
        least, greatest = 0.0, 1.0
    span = greatest - least
    with numpy.errstate(all="ignore"):
        scaled = (values - least) * (255 / span) if span > 0 and numpy.isfinite(span) else values * 0
    return numpy.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255).astype(numpy.uint8)


def png(pixels: numpy.ndarray) -> bytes:
    """Bytes of height, width and 1, 3 or 4 channels as a PNG (https://www.w3.org/TR/png-3/)."""
    import numpy

    height, width, channels = pixels.shape
    # Each line begins with the number of its filter: none.
    scanlines = numpy.zeros((height, 1 + width * channels), numpy.uint8)
    scanlines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _CHANNELS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _smaller(data: bytes) -> bytes | None:
    """The image with sides of at most :data:`SIDE` as a PNG; None without Pillow, or if it cannot read the image."""
    try:
        from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there
    except ImportError:
        return None
    import io

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (SIDE, SIDE))
            image.thumbnail((SIDE, SIDE))
            result = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(result, "PNG")
    except Exception:  # noqa: BLE001 - whatever is wrong with an image, the others are shown
        return None
    return result.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
