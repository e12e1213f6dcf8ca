"""CRC-32C, as TFRecords and frames of snappy have it."""

from __future__ import annotations

import functools

import numpy

#: Checksums are made of pieces of so many bytes, all at once.
_PIECE_BYTES = 1024


def _crc_table() -> list[int]:
    """Of CRC-32C (Castagnoli), whose polynomial is 0x1EDC6F41; turned around."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def masked_crc(data: bytes) -> int:
    """The checksum of a message, masked as in TFRecords and frames of snappy: so that it may be a part of what is summed again."""
    return _masked(_behind(0xFFFFFFFF, data))


def _behind(crc: int, data: bytes) -> int:
    """A register behind these bytes."""
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def _masked(crc: int) -> int:
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crcs(messages: list[bytes]) -> list[int]:
    """The checksums of messages. Pieces of all of them go through the table side by side: a byte at a time is too slow in Python.

    >>> masked_crcs([b"", b"123456789"]) == [masked_crc(b""), masked_crc(b"123456789")]
    True
    """
    table = numpy.array(_CRC, numpy.uint32)
    whole = [len(message) // _PIECE_BYTES for message in messages]
    pieces = numpy.frombuffer(
        b"".join(message[: count * _PIECE_BYTES] for message, count in zip(messages, whole, strict=True)), numpy.uint8
    ).reshape(-1, _PIECE_BYTES)
    registers = numpy.zeros(len(pieces), numpy.uint32)
    for column in numpy.ascontiguousarray(pieces.T):
        registers = (registers >> numpy.uint32(8)) ^ table[(registers ^ column) & numpy.uint32(0xFF)]
    found = iter(registers.tolist())
    checksums = []
    for message, count in zip(messages, whole, strict=True):
        crc = 0xFFFFFFFF
        for _ in range(count):
            # The table is linear: what came before goes through a piece of zeros.
            crc = _after_zeros(crc) ^ next(found)
        checksums.append(_masked(_behind(crc, message[count * _PIECE_BYTES :])))
    return checksums


@functools.cache
def _zeros_tables() -> list[list[int]]:
    """What becomes of each byte of a register behind a piece of zeros. Made when it is asked for: whoever reads lines imports this."""
    registers = numpy.arange(256, dtype=numpy.uint32)[None, :] << (8 * numpy.arange(4, dtype=numpy.uint32))[:, None]
    table = numpy.array(_CRC, numpy.uint32)
    for _ in range(_PIECE_BYTES):
        registers = (registers >> numpy.uint32(8)) ^ table[registers & numpy.uint32(0xFF)]
    return registers.tolist()


def _after_zeros(crc: int) -> int:
    first, second, third, last = _zeros_tables()
    return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ last[crc >> 24]
