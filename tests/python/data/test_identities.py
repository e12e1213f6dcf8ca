"""Random columns of files through random functions that change nothing, compared with what pyarrow reads."""

import datetime
import decimal
import math
import random

import aktis.data
import numpy
import pyarrow
import pytest
from aktis.data import _batches
from pyarrow import parquet, types

ROWS = 40
NAN = float("nan")


def leaf(rng):
    """A type, and a function that makes a value of it."""
    text = lambda: "".join(rng.choices("abcé😀", k=rng.randrange(4)))
    some_bytes = lambda: rng.randbytes(rng.randrange(4))
    moment = lambda: datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=rng.randrange(2**50))
    number = lambda digits: decimal.Decimal(rng.randrange(-(10**digits), 10**digits))
    narrow = lambda value: float(numpy.float32(value))
    return rng.choice([
        (pyarrow.int8(), lambda: rng.randrange(-128, 128)),
        (pyarrow.uint16(), lambda: rng.randrange(2**16)),
        (pyarrow.int32(), lambda: rng.randrange(-(2**31), 2**31)),
        (pyarrow.int64(), lambda: rng.randrange(-(2**63), 2**63)),
        (pyarrow.uint64(), lambda: rng.randrange(2**64)),
        (pyarrow.float16(), lambda: numpy.float16(rng.choice([0.5, -2, NAN]))),
        (pyarrow.float32(), lambda: narrow(rng.choice([rng.uniform(-9, 9), -0.0, NAN]))),
        (pyarrow.float64(), lambda: rng.choice([rng.uniform(-9, 9), 1e300, -0.0, NAN])),
        (pyarrow.bool_(), lambda: rng.random() < 0.5),
        (pyarrow.string(), text),
        (pyarrow.large_string(), text),
        (pyarrow.string_view(), lambda: text() * 9),
        (pyarrow.binary(), some_bytes),
        (pyarrow.large_binary(), some_bytes),
        (pyarrow.binary(3), lambda: rng.randbytes(3)),
        (pyarrow.decimal128(20, 3), lambda: number(12).scaleb(-3)),
        (pyarrow.decimal256(60, 3), lambda: number(50).scaleb(-3, decimal.Context(prec=99))),
        (pyarrow.date32(), lambda: moment().date()),
        (pyarrow.date64(), lambda: moment().date()),
        (pyarrow.time32("ms"), lambda: rng.randrange(86_400_000)),
        (pyarrow.time64("us"), lambda: rng.randrange(86_400_000_000)),
        (pyarrow.timestamp("ms"), lambda: rng.randrange(2**40)),
        (pyarrow.timestamp("us"), moment),
        (pyarrow.timestamp("ns"), lambda: rng.randrange(2**60)),
        (pyarrow.timestamp("us", "Europe/Berlin"), lambda: rng.randrange(2**50)),
        (pyarrow.timestamp("ns", "+02:00"), lambda: rng.randrange(2**60)),
        (pyarrow.duration("us"), lambda: datetime.timedelta(microseconds=rng.randrange(2**50))),
    ])  # fmt: skip


def nested(rng, depth=2):
    if depth == 0 or rng.random() < 0.4:
        return leaf(rng)
    kind, value = nested(rng, depth - 1)
    other, other_value = leaf(rng)
    nulls, size = rng.choice([0, 0.2]), rng.randrange(1, 4)
    maybe = lambda make: None if rng.random() < nulls else make()
    many = lambda: [maybe(value) for _ in range(rng.randrange(4))]
    return rng.choice([
        (pyarrow.list_(kind), many),
        (pyarrow.large_list(kind), many),
        (pyarrow.list_(kind, size), lambda: [maybe(value) for _ in range(size)]),
        (pyarrow.struct({"a": kind, "b": other}), lambda: {"a": maybe(value), "b": maybe(other_value)}),
        (pyarrow.map_(pyarrow.string(), other), lambda: [(f"k{i}", maybe(other_value)) for i in range(rng.randrange(3))]),
    ])  # fmt: skip


def column(rng):
    """A column that begins in the middle of a longer one."""
    kind, value = nested(rng)
    nulls = rng.choice([0, 0, 0.2, 1])
    values = [None if rng.random() < nulls else value() for _ in range(ROWS + 3)]
    # pyarrow does not write views of text from the middle.
    return pyarrow.array(values[3:], kind) if has_views(kind) else pyarrow.array(values, kind).slice(3)


def has_views(kind):
    return "view" in str(kind)


def identity(ds, rng):
    """A dataset of the same rows, and a name for it."""
    size = rng.choice([1, 7, 20, None])
    how = rng.choice(["numpy", "pandas", "pyarrow", "map", "flat_map"])
    if how == "map":
        return ds.map(lambda row: row), how
    if how == "flat_map":
        return ds.flat_map(lambda row: [dict(row)]), how
    if how == "numpy" and rng.random() < 0.5:
        return ds.map_batches(lambda b: dict(b), batch_size=size, zero_copy_batch=False), f"writable {how} {size}"
    return ds.map_batches(lambda batch: batch, batch_format=how, batch_size=size), f"{how} {size}"


def comparable(value):
    """Equal where values are, also for NaN, -0.0 and numbers of any width."""
    if isinstance(value, (float, numpy.floating)):
        return "nan" if math.isnan(value) else (float(value), math.copysign(1, value))
    if isinstance(value, dict):
        return {name: comparable(inner) for name, inner in value.items()}
    return [comparable(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def values(table, name):
    found = table[name].combine_chunks()
    rows = comparable((found.storage if isinstance(found, pyarrow.ExtensionArray) else found).to_pylist())
    # In the order of the numbers in `id`: views of text cannot be sorted by pyarrow.
    ids = table["id"].to_pylist() if "id" in table.column_names else range(len(rows))
    return [row for _, row in sorted(zip(ids, rows, strict=True), key=lambda pair: pair[0])]


def assert_same(found, wanted, hint):
    for name in wanted.column_names:
        assert values(found, name) == values(wanted, name), (*hint, name, str(wanted.schema.field(name).type))
        passed_rows = any(how in ("map", "flat_map") for how in hint[1])
        if not passed_rows:
            assert found.schema.field(name).type == wanted.schema.field(name).type, (*hint, name)


@pytest.mark.parametrize("seed", range(25))
def test_random_columns_pass_random_functions_and_files_unchanged(seed, tmp_path):
    """TYP-2 (like-it-came), TYP-3 (untouched-stays): what pyarrow wrote is what pyarrow reads."""
    rng = random.Random(seed)
    names = [f"c{i}" for i in range(rng.randrange(1, 5))]
    table = pyarrow.table({"id": range(ROWS)} | {name: column(rng) for name in names})
    (tmp_path / "source").mkdir()
    first = 0 if any(has_views(field.type) for field in table.schema) else rng.choice([0, 1, ROWS // 2])
    for index, part in enumerate((table.slice(0, first), table.slice(first))):
        parquet.write_table(part, tmp_path / f"source/{index}.parquet")
    wanted = parquet.read_table(tmp_path / "source")
    ds, passed = aktis.data.read_parquet(tmp_path / "source"), []
    for _ in range(rng.randrange(1, 4)):
        ds, how = identity(ds, rng)
        passed.append(how)
    ds.write_parquet(tmp_path / "target")
    assert_same(parquet.read_table(tmp_path / "target"), wanted, (seed, passed))
    handed = pyarrow.concat_tables(ds.iter_batches(batch_size=rng.choice([13, None]), batch_format="pyarrow"))
    for found in (ds.to_arrow(), handed):
        for name in wanted.column_names:
            assert values(found, name) == values(wanted, name), (seed, passed, name)


@pytest.mark.parametrize("seed", range(40))
def test_random_columns_are_the_same_after_numpy_and_pandas(seed):
    """TYP-3 (untouched-stays), without a cluster: more columns in the same time."""
    rng = random.Random(1000 + seed)
    for batch_format in ("numpy", "pandas"):
        given = pyarrow.RecordBatch.from_arrays([column(rng)], ["c"])
        seen = _batches.from_arrow(given, batch_format)
        copied = seen.copy(deep=True) if batch_format == "pandas" else {"c": seen["c"].copy()}
        for output in (seen, copied):
            back = _batches.to_arrow(output, "f", given, batch_format)
            assert back.schema.field("c").type == given.schema.field("c").type, (seed, batch_format)
            assert comparable(back["c"].to_pylist()) == comparable(given["c"].to_pylist()), (seed, batch_format)


def test_nulls_in_lists_of_a_fixed_size_pass_functions_of_rows():
    for kind in (pyarrow.float64(), pyarrow.int16()):
        given = pyarrow.array([[1, None, 3], None, [4, 5, 6], [None] * 3], pyarrow.list_(kind, 3))
        ds = aktis.data.from_arrow(pyarrow.table({"c": given}))
        for same in (ds.map(lambda row: row), ds.flat_map(lambda row: [dict(row)])):
            assert same.to_arrow()["c"].combine_chunks().equals(given), kind
    changed = aktis.data.from_arrow(pyarrow.table({"x": pyarrow.array([1.5, None])})).map(lambda _: {"x": NAN})
    assert changed.to_arrow()["x"].null_count == 0, "a null that was made NaN is NaN"


def in_lists(values, kind=None):
    return pyarrow.array(values, pyarrow.list_(pyarrow.list_(kind or pyarrow.float64(), 2), 1))


@pytest.mark.parametrize(
    "column",
    [
        in_lists([[[1, 2]], [[3, None]], None, [None]]),
        in_lists([[[1, 2]], None, [[3, 4]]], pyarrow.uint16()),
        in_lists([[[1, NAN]], [[-0.0, 1e300]]]),
        in_lists([[[1, 2]], None, [[None, NAN]]]),
        in_lists([None, None]),
    ],
)
def test_lists_in_lists_of_a_fixed_size_stay_what_they_are(column):
    given = pyarrow.RecordBatch.from_arrays([column], ["c"])
    for batch_format in ("numpy", "pandas"):
        seen = _batches.from_arrow(given, batch_format)
        back = _batches.to_arrow({"c": seen["c"]}, "f", given, batch_format)
        assert back["c"].type == column.type
        assert comparable(back["c"].to_pylist()) == comparable(column.to_pylist())
    back = _batches.rows_to_arrow([dict(row) for row in _batches.rows_of(given)], "f", given)
    assert comparable(back["c"].to_pylist()) == comparable(column.to_pylist())


def test_arrays_have_the_type_that_their_column_came_with_whether_all_or_none_were_changed():
    def first_half_negative(batch):
        return {"c": numpy.where(batch["c"] < 50, -batch["c"], batch["c"])}

    column = in_lists([[[row, row + 0.5]] for row in range(100)])
    ds = aktis.data.from_arrow(pyarrow.table({"c": column}))
    for changed in (
        ds.map_batches(first_half_negative, batch_size=10),
        ds.map(lambda row: {"c": -row["c"] if row["c"][0][0] < 50 else row["c"]}),
    ):
        found = changed.to_arrow()["c"]
        assert found.type == column.type
        assert sorted(row[0][0] for row in found.to_pylist()) == [-row for row in range(49, 0, -1)] + [
            0.0,
            *range(50, 100),
        ]


def test_column_that_was_changed_is_never_taken_for_the_one_that_it_was():
    changes = [
        (pyarrow.array([0.0, None]), lambda c: numpy.array([-0.0, NAN])),
        (pyarrow.array([1.5, None]), lambda c: numpy.nan_to_num(c)),
        (pyarrow.array([{"a": 1}, {"a": None}], pyarrow.struct({"a": pyarrow.int8()})), lambda c: [{"a": 2}, None]),
        (pyarrow.array([[1.0, None], []], pyarrow.list_(pyarrow.float32())), lambda c: [c[0] + 1, c[1]]),
        (pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int8())), lambda c: [[("k", 2)], []]),
        (pyarrow.array([1, None], pyarrow.int8()), lambda c: c * 2),
    ]
    for column, change in changes:
        given = pyarrow.RecordBatch.from_arrays([column], ["c"])
        seen = _batches.from_arrow(given, "numpy")["c"]
        changed = change(seen)
        back = _batches.to_arrow({"c": changed}, "f", given, "numpy")
        assert comparable(back["c"].to_pylist()) != comparable(column.to_pylist()), column.type
        assert not types.is_null(back["c"].type)


def test_values_that_python_has_no_word_for_are_refused_with_the_columns_name():
    nanos = pyarrow.time64("ns")
    for kind, value in ((nanos, 1), (pyarrow.list_(nanos), [1]), (pyarrow.struct({"t": nanos}), {"t": 1})):
        batch = pyarrow.RecordBatch.from_arrays([pyarrow.array([value], kind)], ["when"])
        for give in (
            lambda batch: _batches.from_arrow(batch, "numpy"),
            lambda batch: _batches.from_arrow(batch, "pandas"),
            _batches.rows_of,
        ):
            with pytest.raises(ValueError, match=r"'when'.*nanoseconds.*batch_format='pyarrow'"):
                give(batch)
    far = pyarrow.RecordBatch.from_arrays([pyarrow.array([2**50], pyarrow.timestamp("s"))], ["when"])
    with pytest.raises(ValueError, match="'when'"):
        _batches.rows_of(far)


def test_frames_may_have_dictionaries_with_a_value_twice_or_null():
    values = pyarrow.array(["a", "a", None])
    twice = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1, 2, None], pyarrow.int8()), values)
    given = pyarrow.RecordBatch.from_arrays([twice], ["c"])
    frame = _batches.from_arrow(given, "pandas")
    assert frame["c"].astype(object).where(frame["c"].notna(), None).tolist() == ["a", "a", None, None]
    assert _batches.to_arrow(frame, "f", given, "pandas")["c"].to_pylist() == ["a", "a", None, None]


def test_moments_of_numpy_may_be_returned_one_by_one():
    days = numpy.array(["2024-02-29", "NaT"], "datetime64[D]")
    made = _batches.to_arrow({"day": list(days), "span": [days[0] - days[0], None]}, "f")
    assert made["day"].to_pylist() == [datetime.date(2024, 2, 29), None]
    assert made["span"].to_pylist() == [datetime.timedelta(0), None]
    made = _batches.to_arrow({"hour": days.astype("datetime64[h]"), "month": days.astype("datetime64[M]")}, "f")
    assert made["hour"].to_pylist() == [datetime.datetime(2024, 2, 29), None]
    assert made["month"].to_pylist() == [datetime.date(2024, 2, 1), None]
