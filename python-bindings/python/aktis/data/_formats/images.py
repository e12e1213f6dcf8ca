"""Images, as Pillow decodes them: a row per file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy
from PIL import Image, ImageOps  # pyright: ignore[reportMissingImports] - it need not be there

from .reading import Format, Part

#: What Pillow raises for files that are broken or no images: of some formats it is whatever their decoder met.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    Image.DecompressionBombError,
)


def why(error: BaseException) -> str:
    """What Pillow says, without the place of the bytes in memory."""
    return str(error).partition(" <_io.BytesIO")[0] or type(error).__name__


def upright(data: bytes) -> numpy.ndarray[Any, Any]:
    """Height, width and channels of an image as it is looked at: turned as its camera says, one channel if it is grey, four where something may shine through."""
    with Image.open(io.BytesIO(data)) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        array = numpy.array(image)
        return array[..., None] if array.ndim == 2 else array


class Images(Format):
    """Pixels in the column ``image``: an array of height, width and channels; those of grey images have no channels."""

    function = "read_images"

    def __init__(self, size: tuple[int, int] | None, mode: str | None, *, ignores_broken: bool) -> None:
        self._size = size
        self._mode = mode
        self._ignores_broken = ignores_broken
        self.rows_per_file = None if ignores_broken else 1  # type: ignore[misc]

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            data = file.read()
        try:
            array = self._decoded(data)
        except BROKEN as error:
            if self._ignores_broken:
                return
            raise ValueError(
                f"read {part.path}: it is broken, or not an image that Pillow reads ({why(error)}); errors='ignore' passes over such files"
            ) from None
        # What is always of one shape is one array; else each has its own.
        yield {"image": array[None] if self._size and self._mode else [array]}

    def _decoded(self, data: bytes) -> numpy.ndarray[Any, Any]:
        with Image.open(io.BytesIO(data)) as opened:
            image: Image.Image = opened
            if self._size is not None and image.size != (self._size[1], self._size[0]):
                image = image.resize((self._size[1], self._size[0]), resample=Image.Resampling.BILINEAR)
            if self._mode is not None and image.mode != self._mode:
                image = image.convert(self._mode)
            return numpy.array(image)
