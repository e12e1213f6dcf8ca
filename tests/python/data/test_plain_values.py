"""Values between Arrow, numpy and Python: what pyarrow makes of them, without pandas."""

import subprocess
import sys
import textwrap

import numpy
import pyarrow
import pytest
from aktis.data import _plain_values

DEADLINE_S = 120


def test_values_go_through_functions_and_to_the_driver_without_pandas():
    """pyarrow would import it in each process, at the first array."""
    script = """
        import sys
        import aktis.data
        import numpy

        class Makes:
            def __call__(self, batch):
                ids = batch["id"].tolist()
                return {
                    "id": batch["id"], "half": batch["id"] / 2, "is_even": batch["id"] % 2 == 0,
                    "vector": batch["id"].reshape(-1, 1).astype("float32"), "text": [f"row {n}" for n in ids],
                    "many": [[n] * (n % 3) for n in ids], "words": [["a", None]] * len(ids), "raw": [b"a"] * len(ids),
                    "at": batch["id"].astype("M8[s]"), "some": [None if n % 2 else 0.5 for n in ids],
                    "fixed": numpy.array(["ab"] * len(ids)), "objects": numpy.array(["ab"] * len(ids), object),
                }

        def is_known(batch):
            same = {name: values[:] for name, values in batch.items()}
            return same | {"known": numpy.full(len(batch["id"]), "pandas" in sys.modules)}

        def of_row(row):
            # Moments of Python still go by pyarrow.
            return row | {"at": None, "known_by_row": "pandas" in sys.modules, "length": len(row["text"])}

        aktis.init(num_cpus=2)
        ds = aktis.data.range(100).map_batches(Makes, compute=aktis.data.ActorPoolStrategy(size=1), batch_size=10)
        ds = ds.map_batches(is_known, batch_size=10, num_cpus=0.5).map(of_row, num_cpus=0.25)
        batches = list(ds.iter_batches(batch_size=None))
        known = [bool(batch[name].any()) for batch in batches for name in ("known", "known_by_row")]
        print(any(known), len(ds.take(3)[0]["text"]), "pandas" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout.split() == ["False", "5", "False"], done.stderr


@pytest.mark.parametrize(
    "dtype",
    [
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "f2",
        "f4",
        "f8",
        "?",
        "U1",
        "M8[s]",
        "M8[D]",
        "m8[ns]",
        "M8[25s]",
    ],
)
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_arrays_become_the_columns_that_pyarrow_makes_of_them(dtype, rows):
    values = (numpy.arange(rows) % 2).astype(dtype)
    for array in (values, numpy.repeat(values, 2)[::2]):
        column = _plain_values.of_numpy(array)
        column.validate(full=True)
        expected = pyarrow.array(array.astype(array.dtype.newbyteorder("=")))
        assert column.equals(expected) and column.type == expected.type and column.null_count == 0


def test_moments_that_are_not_there_are_null():
    values = numpy.array(["2024-05-06", "NaT", "1969-12-31"], "M8[us]")
    for array in (values, values - values[0], values[:0]):
        column = _plain_values.of_numpy(array)
        column.validate(full=True)
        assert column.equals(pyarrow.array(array))


@pytest.mark.parametrize(
    "values",
    [
        [], [None], ["a", None, "ä\0😀", ""], [b"a", b"", None], [True, None, False], [1, None, -(2**63), 2**63 - 1],
        [0.5, None, float("nan"), -0.0], [[1], [], None, [2, None]], [[[]], [[1], None]], [["a"], [None]], [[], None], [[None]],
        [[b"x"], [b""]], [[True]],
    ],
    ids=str,
)  # fmt: skip
def test_lists_become_the_columns_that_pyarrow_makes_of_them(values):
    column = _plain_values.plain_column(values)
    column.validate(full=True)
    expected = pyarrow.array(values)
    assert column.type == expected.type and repr(column.to_pylist()) == repr(expected.to_pylist())
    assert column.null_count == expected.null_count


class Text(str):
    pass


@pytest.mark.parametrize(
    "values",
    [
        ["a", 1], [1, "a"], ["a", b"a"], [1, 0.5], [0.5, 1], [True, 1], [1, True], [2**63], ["\ud800"], [Text("a")], ["a", Text("a")],
        [(1, 2)], [[1], (2,)], [[1], ["a"]], [{"a": 1}], [numpy.int64(1)], [1, numpy.int64(1)], [numpy.zeros(2)], [[numpy.zeros(2)]],
        [float], [1j],
    ],
    ids=str,
)  # fmt: skip
def test_other_lists_are_left_to_pyarrow(values):
    assert _plain_values.plain_column(values) is None


def test_lists_that_have_themselves_in_them_are_left_to_pyarrow():
    endless = []
    endless.append(endless)
    assert _plain_values.plain_column(endless) is None


_LISTS = pyarrow.array([[1, 2], None, [], [3], [4, 5]])


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([1, None, 3, 4, None], pyarrow.int8()), pyarrow.array([1, 2, 3, 4, 5], pyarrow.uint16()),
        pyarrow.array([1.5, None, 3.0, 0.0, float("nan")], pyarrow.float32()), pyarrow.array([1.5, None, 3, 4, 5], pyarrow.float16()),
        pyarrow.array([True, False, True, True, False]), pyarrow.array([True, None, False, None, True]),
        pyarrow.array(["a", None, "", "ä", "b"]), pyarrow.array(["a", "", None, "ä", "b"], pyarrow.large_string()),
        pyarrow.array([b"a", None, b"", b"c", b"d"]), pyarrow.array([b"a", None, b"", b"c", b"d"], pyarrow.large_binary()),
        pyarrow.array([1, None, 3, 4, 5], pyarrow.timestamp("us")), pyarrow.array([1, 2, 3, 4, 5], pyarrow.timestamp("ns", tz="Europe/Berlin")),
        pyarrow.array([1, None, 3, 4, 5], pyarrow.duration("s")), pyarrow.array([1, None, 3, 4, 5], pyarrow.date32()),
        pyarrow.array([1, None, 3, 4, 5], pyarrow.time64("us")), pyarrow.nulls(5),
        _LISTS, _LISTS.cast(pyarrow.large_list(pyarrow.float64())), _LISTS.cast(pyarrow.list_(pyarrow.timestamp("s"))),
        pyarrow.array([["a"], None, [], ["b", None], ["c"]]), pyarrow.array([[1, None], None, [], [2], [3]]),
        pyarrow.array([[True], None, [], [False], [True, True]]), pyarrow.array([[[1], []], None, [], [[2, 3], None], [[4]]]),
    ],
    ids=lambda column: f"{column.type} {column.null_count}",
)  # fmt: skip
def test_columns_become_what_pyarrow_makes_of_them(column):
    for part in (column, column.slice(2), column.slice(1, 2), column.slice(0, 0)):
        values, expected = _plain_values.to_numpy(part), part.to_numpy(zero_copy_only=False)
        assert values.dtype == expected.dtype and values.shape == expected.shape
        assert repr(values.tolist()) == repr(expected.tolist())
        if pyarrow.types.is_list(part.type):
            for row, other in zip(values, expected, strict=True):
                assert (row is None) == (other is None) and (row is None or row.dtype == other.dtype)


@pytest.mark.parametrize(
    "kind", [pyarrow.int8(), pyarrow.uint64(), pyarrow.float16(), pyarrow.float64(), pyarrow.bool_()]
)
def test_numbers_of_columns_are_seen_where_they_lie_and_nobody_writes_there(kind):
    column = pyarrow.array([0, 1, 0, 1, 1], pyarrow.int64()).cast(kind)
    for part in (column, column.slice(2), column.slice(1, 2), column.slice(0, 0)):
        values = _plain_values.view(part)
        assert values.tolist() == part.to_pylist()
        assert values.dtype == numpy.dtype(kind.to_pandas_dtype())
    if not pyarrow.types.is_boolean(kind):
        values = _plain_values.view(column)
        assert values.ctypes.data == column.buffers()[1].address
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            values.flags.writeable = True
