"""PDF documents, as PDFium reads them: a row per page, or per document."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pyarrow
import pypdfium2  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports] - it need not be there

from .. import _plain_values
from .reading import Format, Part

#: Rows that are put together have so many bytes, or are so many.
_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 1000
#: A page may have more where somebody has meant harm, or has taken inches for millimetres.
_MOST_PIXELS = 178_956_970
_POINTS_PER_INCH = 72
#: Between the pages of a document, as other tools put it.
_PAGE_BREAK = "\f"

#: The library may be called by one thread of a process at a time.
_LOCK = threading.Lock()


class PDFs(Format):
    """The text of pages in the column ``text``, their numbers in ``page_number``, and ``image``; or the text of documents, and ``num_pages``."""

    function = "read_pdfs"

    def __init__(
        self, *, by_document: bool, dpi: float | None, mode: str, password: str | None, ignores_broken: bool
    ) -> None:
        self._by_document = by_document
        self._dpi = dpi
        self._mode = mode
        self._password = password
        self._ignores_broken = ignores_broken
        self.rows_per_file = 1 if by_document and not ignores_broken else None  # type: ignore[misc]

    def schema(self) -> pyarrow.Schema | None:
        if self._dpi is not None:
            # Pages of one size are one kind of tensor, others are another.
            return None
        number = "num_pages" if self._by_document else "page_number"
        return pyarrow.schema({"text": pyarrow.string(), number: pyarrow.int32()})

    def has_parts(self, whole: Part) -> bool:
        # Of a file that is far all comes to whoever reads one page.
        return whole.store is None and not self._by_document

    def read(self, part: Part) -> Iterator[Any]:
        try:
            with self._opened(part) as document:
                yield from self._document(document, part) if self._by_document else self._pages(document, part)
        except pypdfium2.PdfiumError as error:
            if not self._ignores_broken:
                raise ValueError(
                    f"read {part.path}: it is broken, or no PDF that PDFium reads ({error}); errors='ignore' passes over such files, "
                    "password= opens those that are locked"
                ) from None

    @contextmanager
    def _opened(self, part: Part) -> Iterator[Any]:
        source: Any = part.path
        if part.store is not None or part.compression is not None:
            with part.open() as file:
                source = file.read()
        with _LOCK:
            document = pypdfium2.PdfDocument(source, password=self._password)
        try:
            yield document
        finally:
            with _LOCK:
                document.close()

    def _document(self, document: Any, part: Part) -> Iterator[Any]:
        with _LOCK:
            count = len(document)
        texts = [row[0] for number in range(count) if (row := self._page(document, number, part)) is not None]
        yield {"text": [_PAGE_BREAK.join(texts)], "num_pages": numpy.array([count], numpy.int32)}

    def _pages(self, document: Any, part: Part) -> Iterator[Any]:
        with _LOCK:
            count = len(document)
        texts: list[str] = []
        images: list[numpy.ndarray[Any, Any]] = []
        numbers: list[int] = []
        for number in _pages_in(part, count):
            row = self._page(document, number, part)
            if row is None:
                continue
            texts.append(row[0])
            images += row[1:]
            numbers.append(number + 1)
            if len(numbers) >= _BATCH_ROWS or sum(image.nbytes for image in images) >= _BATCH_BYTES:
                yield self._rows(texts, images, numbers)
                texts, images, numbers = [], [], []
        if numbers:
            yield self._rows(texts, images, numbers)

    def _rows(self, texts: list[str], images: list[Any], numbers: list[int]) -> dict[str, Any]:
        rows = {
            "text": _plain_values.of_list(texts).cast(pyarrow.string()),
            "page_number": numpy.array(numbers, numpy.int32),
        }
        return {**rows, "image": images} if self._dpi is not None else rows

    def _page(self, document: Any, number: int, part: Part) -> tuple[Any, ...] | None:
        """The text of a page, and what it looks like if that is wanted; ``None``: it is broken, and passed over."""
        try:
            with _LOCK:
                page = document[number]
                try:
                    return (_text_of(page),) if self._dpi is None else (_text_of(page), self._image_of(page))
                finally:
                    page.close()
        except (pypdfium2.PdfiumError, _TooLarge) as error:
            if self._ignores_broken:
                return None
            raise ValueError(
                f"read {part.path}, page {number + 1}: {error}; errors='ignore' passes over such pages"
            ) from None

    def _image_of(self, page: Any) -> numpy.ndarray[Any, Any]:
        assert self._dpi is not None, "asked for where pages are rendered"
        scale = self._dpi / _POINTS_PER_INCH
        width, height = (side * scale for side in page.get_size())
        if width * height > _MOST_PIXELS:
            raise _TooLarge(f"it would have {width:.0f} x {height:.0f} pixels; give a lower dpi")
        bitmap = page.render(scale=scale, grayscale=self._mode == "L", rev_byteorder=True)
        try:
            # The bitmap's own memory goes with it.
            image = numpy.array(bitmap.to_numpy())
        finally:
            bitmap.close()
        if self._mode == "L":
            return image[..., 0] if image.ndim == 3 else image
        return image[..., :3]


class _TooLarge(Exception):
    """A page has more pixels than anybody wants."""


def _text_of(page: Any) -> str:
    text = page.get_textpage()
    try:
        return text.get_text_bounded().replace("\r\n", "\n")
    finally:
        text.close()


def _pages_in(part: Part, count: int) -> Iterator[int]:
    """The pages that belong to a part of a file: each to the part in which its share of the file has its middle."""
    for number in range(count):
        middle = part.size_bytes * (2 * number + 1) // (2 * count)
        if part.is_whole or part.start <= middle < part.end:
            yield number
