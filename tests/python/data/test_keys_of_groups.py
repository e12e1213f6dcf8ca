"""Which values of a key are the same: zeros, values that are no number, and types that few things can compare."""

import itertools
import struct

import aktis.data
import numpy
import pyarrow
import pytest


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


#: As numpy has it, as ``0.0 / 0.0`` is on many processors, and with other bits.
NANS = [float("nan"), float_of(0xFFF8000000000000), float_of(0x7FF8000000000007), float_of(0xFFF0000000000123)]
FLOATS = [0.0, -0.0, *NANS, 1.5]
#: How often each of them is there beside one value of ``j``.
TIMES = 3
EXPECTED = {"0.0": 2 * TIMES, "nan": 4 * TIMES, "1.5": TIMES}


def rows_of_floats():
    rows = list(itertools.product(range(TIMES), (0, 1), FLOATS))
    columns = {"k": numpy.array([k for _, _, k in rows]), "j": [j for _, j, _ in rows]}
    table = pyarrow.table(columns)
    return aktis.data.from_arrow([table.slice(at, 7) for at in range(0, len(rows), 7)])


def name(value):
    return str(value + 0.0)


def counted(rows, keys, count):
    """The count of each group; each is there once."""
    counts = {tuple(name(row[key]) for key in keys): row[count] for row in rows}
    assert len(counts) == len(rows)
    return counts


@pytest.mark.parametrize("keys", [["k"], ["k", "j"], ["j", "k"]])
def test_zeros_are_one_group_and_so_are_values_that_are_no_number(keys):
    grouped = rows_of_floats().groupby(keys)

    def size(group):
        return {**{key: group[key][:1] for key in keys}, "rows": [len(group[keys[0]])]}

    if len(keys) == 1:
        expected = {(k,): 2 * count for k, count in EXPECTED.items()}
    else:
        both = [({"k": k, "j": j}, count) for j in ("0.0", "1.0") for k, count in EXPECTED.items()]
        expected = {tuple(values[key] for key in keys): count for values, count in both}
    assert counted(grouped.count().take_all(), keys, "count()") == expected
    assert counted(grouped.map_groups(size, batch_format="numpy").take_all(), keys, "rows") == expected


def test_different_values_are_different_numbers():
    assert sorted(map(name, rows_of_floats().unique("k"))) == ["0.0", "1.5", "nan"]


@pytest.mark.parametrize("hint", [None, "broadcast"])
def test_rows_meet_whose_keys_are_the_same_number(hint):
    right = aktis.data.from_items([{"k": -0.0, "w": 0}, {"k": NANS[1], "w": 1}, {"k": 2.5, "w": 2}])
    joined = rows_of_floats().join(right, "inner", on=("k",), num_partitions=4, hint=hint)
    found = [row["w"] for row in joined.take_all()]
    assert (found.count(0), found.count(1), len(found)) == (12, 24, 36)


def test_sorted_rows_have_one_zero_and_end_with_what_is_no_number():
    rows = [(name(row["k"]), row["j"]) for row in rows_of_floats().sort(["k", "j"]).take_all()]
    order = [(k, j) for k in ("0.0", "1.5", "nan") for j in (0, 1)]
    assert rows == [key for key in order for _ in range(EXPECTED[key[0]])]


KINDS = [
    (pyarrow.null(), [None, None, None], {3}),
    (pyarrow.float16(), list(map(numpy.float16, (1, 2, 1))), {1, 2}),
    (pyarrow.list_(pyarrow.float64()), [[1.0, None], [2.0], [1.0, None]], {1, 2}),
    (pyarrow.list_(pyarrow.float32(), 2), [[1, 2], [1, 3], [1, 2]], {1, 2}),
    (pyarrow.struct([("a", pyarrow.int64())]), [{"a": 1}, {"a": None}, {"a": 1}], {1, 2}),
]


@pytest.mark.parametrize(("kind", "values", "sizes"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_keys_that_no_function_of_arrow_compares_make_groups(kind, values, sizes):
    table = pyarrow.table({"k": pyarrow.array(values, kind), "v": [1, 2, 3]})
    grouped = aktis.data.from_arrow([table.slice(0, 1), table.slice(1)]).groupby("k")
    groups = grouped.map_groups(lambda group: pyarrow.table({"rows": [group.num_rows]}), batch_format="pyarrow")
    assert {row["rows"] for row in groups.take_all()} == sizes
