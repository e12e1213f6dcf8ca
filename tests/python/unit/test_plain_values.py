"""The compact encoding of plain data, as a peer may write it."""

import contextlib
import random
import struct

import aktis
import pytest
from aktis import _aktis

NONE, STR, TUPLE, LIST, DICT = b"\0", 5, 7, 8, 9
#: Containers in containers that are written so; what is deeper is left to pickle.
DEEPEST = 16


def of_one(tag):
    return bytes([tag]) + struct.pack("<I", 1)


def nested(levels, tag):
    """So many containers in each other, each with one item; those of dicts are keys as well as values."""
    inner = NONE + NONE if tag == DICT else NONE
    return (of_one(tag) + (NONE if tag == DICT else b"")) * (levels - 1) + of_one(tag) + inner


def depth(value):
    levels = 0
    while isinstance(value, list | tuple | dict):
        value = value[None] if isinstance(value, dict) else value[0]
        levels += 1
    return levels


@pytest.mark.parametrize("tag", [TUPLE, LIST, DICT])
def test_what_is_nested_too_deeply_is_an_error_and_no_crash(tag):
    assert depth(_aktis._decode_plain(nested(DEEPEST, tag))) == DEEPEST
    for levels in (DEEPEST + 1, 1_000_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            _aktis._decode_plain(nested(levels, tag))


def test_what_is_announced_and_not_there_is_an_error():
    for tag in (STR, TUPLE, LIST, DICT):
        with pytest.raises(ValueError, match="shorter than it says"):
            _aktis._decode_plain(bytes([tag]) + struct.pack("<I", 0xFFFFFFFF) + bytes(1000))


def test_random_bytes_are_values_or_errors():
    chance = random.Random(11)
    for _ in range(20_000):
        written = bytes(chance.choices(range(14), k=chance.randint(0, 40)))
        with contextlib.suppress(ValueError, TypeError):
            _aktis._decode_plain(written)


@pytest.mark.parametrize("levels", [1, DEEPEST, DEEPEST + 1, 200])
def test_values_of_any_depth_come_back(levels):
    value = None
    for _ in range(levels):
        value = [value]
    aktis.init(num_cpus=1, log_to_driver=False)
    try:
        assert depth(aktis.get(aktis.put(value))) == levels
    finally:
        aktis.shutdown()
