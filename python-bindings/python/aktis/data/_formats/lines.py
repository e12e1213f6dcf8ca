"""Text of files in blocks of whole lines, from anywhere in a file.

>>> import io
>>> list(blocks(io.BytesIO(b"one\\ntwo\\nthree"), 5))
[b'one\\n', b'two\\n', b'three']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from . import compressed

#: What endings of names tell.
_COMPRESSIONS = {
    "gz": "gzip", "bz2": "bz2", "br": "brotli", "zst": "zstd", "lz4": "lz4", "xz": "xz", "snappy": "snappy",
}  # fmt: skip
_CHUNK_BYTES = 1 << 16
_COUNT_BYTES = 1 << 22
#: Mostly a line is shorter.
_LINE_BYTES = 1 << 15


def compression_of(path: str, said: Any = "detect") -> str | None:
    """What a file is compressed with, by what was said or else by its name.

    >>> compression_of("a.csv.gz"), compression_of("a.csv"), compression_of("a.csv.gz", None)
    ('gzip', None, None)
    """
    return _COMPRESSIONS.get(path.rpartition(".")[2].lower()) if said == "detect" else said


def ending_of(compression: str | None) -> str:
    """What is behind the endings of files that are compressed with this.

    >>> ending_of("gzip"), ending_of(None)
    ('.gz', '')
    """
    return next((f".{ending}" for ending, name in _COMPRESSIONS.items() if name == compression), "")


def compression_said(function: str, args: Mapping[str, Any] | None) -> Any:
    """What ``arrow_open_stream_args`` says of compression; "detect": nothing."""
    args = dict(args or {})
    said = args.pop("compression", "detect")
    args.pop("buffer_size", None)  # how much is read at once is the reader's affair
    if args:
        raise TypeError(
            f"{function}(): arrow_open_stream_args knows compression and buffer_size, not {', '.join(args)}"
        )
    if said in (None, "detect"):
        return said
    if not isinstance(said, str) or said.lower() not in compressed.NAMES:
        raise ValueError(
            f"{function}(): compression={said!r} is not known; there are {', '.join(compressed.NAMES)} and None"
        )
    return said.lower()


def block_bytes_of(function: str, read_options: Any) -> int:
    """Bytes of a block, which pyarrow's options do not look at before they are used."""
    if read_options.block_size < 1:
        raise ValueError(
            f"{function}(): block_size of read_options must be at least 1, not {read_options.block_size}: no row would be read"
        )
    return int(read_options.block_size)


class Between:
    """The lines of a file that begin between two bytes of it, as a stream.

    Where the last one ends shows when it is read: to look for that first would be one more answer to wait for.

    >>> import io
    >>> lines = Between(io.BytesIO(b"one\\ntwo\\nthree\\n"), 2, 5)
    >>> lines.place, lines.read(9), lines.read(9)
    (4, b'two\\n', b'')
    """

    def __init__(self, file: Any, start: int, end: int) -> None:
        self._file, self._end = file, end
        self._held = b""
        #: Where the next byte lies in the file.
        self.place = start
        if start > 0:
            self._begin(start - 1)
        # No line may begin there.
        self._is_over = self.place >= end

    def _begin(self, place: int) -> None:
        self._file.seek(place)
        while chunk := self._file.read(_CHUNK_BYTES):
            found = chunk.find(b"\n")
            if found >= 0:
                self._held = chunk[found + 1 :]
                place += found + 1
                break
            place += len(chunk)
        self.place = place

    def read(self, size: int) -> bytes:
        """The next bytes: fewer only at the end."""
        if self._is_over:
            return b""
        data, self._held = self._held[:size], self._held[size:]
        last = max(0, self._end - 1 - self.place)
        while (found := data.find(b"\n", last)) < 0 and len(data) < size:
            # What is far behind the end is not asked for.
            left = max(0, self._end - self.place - len(data)) + _LINE_BYTES
            if not (chunk := self._file.read(min(size - len(data), left))):
                break
            data += chunk
        if found >= 0:
            data, self._is_over = data[: found + 1], True
        self.place += len(data)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def blocks(stream: Any, block_bytes: int, quote: bytes | None = None) -> Iterator[bytes]:
    """The text of a stream in blocks of whole lines of about so many bytes.

    ``quote``: what stands around values that may have lines in them, which are not cut there.

    >>> import io
    >>> list(blocks(io.BytesIO(b'a,"one\\ntwo"\\nb,c\\n'), 8, b'"'))
    [b'a,"one\\ntwo"\\n', b'b,c\\n']
    """
    rest = b""
    while chunk := stream.read(max(block_bytes, len(rest))):
        text = rest + chunk
        end = _last_end(text, quote)
        if end:
            yield text[:end]
        rest = text[end:]
    if rest:
        yield rest


def _last_end(text: bytes, quote: bytes | None) -> int:
    """Where the last whole line ends."""
    end = text.rfind(b"\n") + 1
    is_inside = quote is not None and text.count(quote, 0, end) % 2 == 1
    while end and is_inside and quote is not None:
        before = text.rfind(b"\n", 0, end - 1) + 1
        is_inside = text.count(quote, before, end) % 2 == 0
        end = before
    return end


def count(stream: Any, until: int) -> int:
    """How many lines end before the byte `until`."""
    found = 0
    while until > 0 and (chunk := stream.read(min(until, _COUNT_BYTES))):
        found += chunk.count(b"\n")
        until -= len(chunk)
    return found
