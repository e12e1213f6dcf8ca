"""Files that are compressed: as pyarrow has it, and xz and frames of snappy, which it lacks.

>>> import tempfile
>>> path = tempfile.mkdtemp() + "/a"
>>> with written(path, "snappy") as file:
...     _ = file.write(b"one" * 3)
>>> with unpacked(pyarrow.OSFile(path), "snappy") as file:
...     file.read()
b'oneoneone'
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterator
from typing import Any

import pyarrow

from .crc32c import masked_crcs

#: As pyarrow calls them.
NAMES = ("gzip", "bz2", "zstd", "brotli", "lz4", "snappy", "xz")

#: What a file of frames of snappy begins with.
_SNAPPY_BEGINS = b"\xff\x06\x00\x00sNaPpY"
#: Kinds of frames: compressed, as it is, and from which on they say nothing.
_COMPRESSED, _PLAIN, _SKIPPED = 0, 1, 0x80
#: A frame has no more, before compression,
_FRAME_BYTES = 1 << 16
#: and so many are looked at together.
_FRAMES = 32


def unpacked(file: Any, compression: str) -> Any:
    """What is in a compressed file, as a stream, which closes the file."""
    if compression == "xz":
        return _Stream(_XZ(file), _FRAME_BYTES)
    if compression == "snappy":
        return _Stream(_SnappyFrames(file), _FRAME_BYTES)
    return pyarrow.CompressedInputStream(file, compression)


def written(path: str, compression: str | None) -> Any:
    """A new file, as a stream; what is written is compressed."""
    file = pyarrow.OSFile(path, "wb")
    if compression is None:
        return file
    if compression == "xz":
        return pyarrow.PythonFile(_XZWriter(file), "w")
    if compression == "snappy":
        return pyarrow.PythonFile(_SnappyWriter(file), "w")
    return pyarrow.CompressedOutputStream(file, compression)


class _Stream(io.BufferedReader):
    """With what readers ask streams of pyarrow for."""

    def readall(self) -> bytes:
        return self.read()

    def read_buffer(self, nbytes: int | None = None) -> pyarrow.Buffer:
        return pyarrow.py_buffer(self.read(nbytes))


class _XZ(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file
        self._unpacked = lzma.LZMAFile(file)  # noqa: SIM115 - closed by close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._unpacked.readinto(buffer)
        except (lzma.LZMAError, EOFError) as error:
            raise OSError(f"xz decompression failed: {error}") from error

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._unpacked.close()
            self._file.close()


class _SnappyFrames(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = memoryview(b"")
        self._pieces = self._read()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()

    def _read(self) -> Iterator[bytes]:
        begins = self._file.read(len(_SNAPPY_BEGINS))
        if begins and begins != _SNAPPY_BEGINS:
            raise OSError(
                "snappy decompression failed: it does not begin as files of the framing format do; Hadoop's and raw blocks are others, "
                "which a function can unpack"
            )
        sums: list[int] = []
        pieces: list[bytes] = []
        while head := self._file.read(4):
            body = self._file.read(int.from_bytes(head[1:], "little"))
            if len(head) < 4 or len(body) < int.from_bytes(head[1:], "little"):
                raise OSError("snappy decompression failed: it is cut off")
            if head[0] in (_COMPRESSED, _PLAIN):
                sums.append(int.from_bytes(body[:4], "little"))
                pieces.append(body[4:] if head[0] == _PLAIN else _block(body[4:]))
            elif head[0] < _SKIPPED:
                raise OSError(f"snappy decompression failed: there is a frame of the unknown kind {head[0]}")
            if len(pieces) >= _FRAMES:
                yield from _checked(pieces, sums)
                sums, pieces = [], []
        yield from _checked(pieces, sums)


def _block(block: bytes) -> bytes:
    """A block of snappy, which begins with its length."""
    length = shift = 0
    for byte in block[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > _FRAME_BYTES:
        raise OSError(f"snappy decompression failed: a frame says that it has {length} bytes")
    try:
        return pyarrow.Codec("snappy").decompress(block, length, asbytes=True)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise OSError(f"snappy decompression failed: {error}") from error


def _checked(pieces: list[bytes], sums: list[int]) -> list[bytes]:
    if masked_crcs(pieces) != sums:
        raise OSError("snappy decompression failed: a checksum is wrong")
    return pieces


class _XZWriter(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file
        self._packed = lzma.LZMAFile(file, "w")  # noqa: SIM115 - closed by close()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._packed.write(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._packed.close()
            self._file.close()


class _SnappyWriter(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file
        self._waiting = bytearray()
        file.write(_SNAPPY_BEGINS)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        if len(self._waiting) >= _FRAMES * _FRAME_BYTES:
            self._write(len(self._waiting) // _FRAME_BYTES * _FRAME_BYTES)
        return memoryview(data).nbytes

    def close(self) -> None:
        if not self.closed:
            self._write(len(self._waiting))
            super().close()
            self._file.close()

    def _write(self, count: int) -> None:
        """Writes the first bytes of those that wait."""
        data = bytes(self._waiting[:count])
        del self._waiting[:count]
        pieces = [data[start : start + _FRAME_BYTES] for start in range(0, count, _FRAME_BYTES)]
        codec = pyarrow.Codec("snappy")
        for piece, checksum in zip(pieces, masked_crcs(pieces), strict=True):
            block = codec.compress(piece, asbytes=True)
            kind, body = (_COMPRESSED, block) if len(block) < len(piece) else (_PLAIN, piece)
            head = bytes([kind]) + (len(body) + 4).to_bytes(3, "little") + checksum.to_bytes(4, "little")
            self._file.write(head + body)
