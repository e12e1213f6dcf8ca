"""Values and types of every kind on their way through functions and files."""

import datetime
import decimal
import uuid

import aktis.data
import numpy
import pandas
import pyarrow
import pytest

BIG = 2**60 + 1
NANOS = 1_704_067_200_123_456_789
TYPES = {
    "large integers beside a null": pyarrow.array([BIG, None, 3]),
    "uint64": pyarrow.array([2**64 - 1, None, 0], pyarrow.uint64()),
    "int8": pyarrow.array([1, None, -1], pyarrow.int8()),
    "decimal": pyarrow.array(
        [decimal.Decimal("1.10"), None, decimal.Decimal("-99999999.99")], pyarrow.decimal128(20, 2)
    ),
    "dictionary": pyarrow.array(["a", None, "b"]).dictionary_encode(),
    "large text": pyarrow.array(["a", None, "é"], pyarrow.large_string()),
    "bytes": pyarrow.array([b"\x00\xff", None, b""]),
    "bytes of a fixed length": pyarrow.array([b"ab", b"xy", b"cd"], pyarrow.binary(2)),
    "list": pyarrow.array([[1, 2], [3, 4], []], pyarrow.list_(pyarrow.int32())),
    "lists of one length": pyarrow.array([[1, 2], [3, 4], [5, 6]], pyarrow.list_(pyarrow.int32())),
    "large integers in lists": pyarrow.array([[BIG, None], None, []]),
    "large integers in structs": pyarrow.array([{"a": BIG}, {"a": None}, None]),
    "empty lists": pyarrow.array([[], [], []], pyarrow.list_(pyarrow.float64())),
    "list of structs": pyarrow.array([[{"a": 1, "b": "x"}], None, []]),
    "map": pyarrow.array([[("k", 1)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    "nanoseconds": pyarrow.array([NANOS, None, 5], pyarrow.timestamp("ns")),
    "zone": pyarrow.array([NANOS // 1000, None, 5], pyarrow.timestamp("us", "Europe/Berlin")),
    "date": pyarrow.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)]),
    "null": pyarrow.nulls(3),
    "text that is null": pyarrow.nulls(3, pyarrow.string()),
    "fixed list": pyarrow.array([[1.0, 2.0], None, [5.0, 6.0]], pyarrow.list_(pyarrow.float32(), 2)),
    "half": pyarrow.array(numpy.array([1.5, 2.5, -1], numpy.float16)),
}
#: Python has one type for numbers of every width.
OF_ANOTHER_WIDTH_IN_ROWS = {"int8", "list", "lists of one length", "half"}


def same(batch):
    return batch


def identity(ds, how, batch_size):
    if how == "map":
        return ds.map(lambda row: {name: row[name] for name in row})
    if how == "flat_map":
        return ds.flat_map(lambda row: [row])
    return ds.map_batches(same, batch_format=how, batch_size=batch_size)


@pytest.mark.parametrize("how", ["numpy", "pandas", "pyarrow", "map", "flat_map"])
def test_columns_of_every_type_pass_a_function_that_does_nothing(how):
    """TYP-2 (like-it-came), TYP-3 (untouched-stays)."""
    columns = pyarrow.table(TYPES)
    # One run for all types: each column goes its own way.
    source = aktis.data.from_arrow(columns)
    for batch_size in (1, 2, None):
        table = identity(source, how, batch_size).to_arrow()
        for name, column in TYPES.items():
            assert table[name].to_pylist() == column.to_pylist(), (name, how, batch_size)
            if how not in ("map", "flat_map") or name not in OF_ANOTHER_WIDTH_IN_ROWS:
                assert table[name].type == column.type, (name, how, batch_size)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_written_and_read_again(name, tmp_path):
    table = pyarrow.table({"c": TYPES[name]})
    aktis.data.from_arrow(table).write_parquet(tmp_path)
    read = aktis.data.read_parquet(tmp_path).to_arrow()
    assert read["c"].to_pylist() == table["c"].to_pylist()
    assert read["c"].type == table["c"].type


def test_type_of_a_list_does_not_depend_on_how_rows_fall_into_batches(tmp_path):
    """TYP-1 (type-by-container)."""
    lists = pyarrow.array([[1, 2], [3, 4], [], [5]], pyarrow.list_(pyarrow.int64()))
    source = aktis.data.from_arrow(pyarrow.table({"ids": lists}))
    for batch_size in (1, 2, 4):
        made = source.map_batches(lambda b: {"more": [[*ids, 0] for ids in b["ids"]]}, batch_size=batch_size)
        seen = {batch["more"].type for batch in made.iter_batches(batch_size=1, batch_format="pyarrow")}
        assert seen == {pyarrow.list_(pyarrow.int64())}
        out = tmp_path / str(batch_size)
        made.write_parquet(out)
        assert [row["more"] for row in aktis.data.read_parquet(out).take_all()] == [[1, 2, 0], [3, 4, 0], [0], [5, 0]]


def test_large_integers_stay_whole_in_frames_and_in_numpy():
    ds = aktis.data.from_arrow(pyarrow.table({"n": TYPES["large integers beside a null"]}))
    assert int(ds.to_pandas()["n"].iloc[0]) == BIG
    assert ds.take_batch(3)["n"].tolist() == [BIG, None, 3]
    small = aktis.data.from_arrow(pyarrow.table({"n": pyarrow.array([1, None])})).take_batch(2)["n"]
    assert small.dtype == numpy.float64 and numpy.isnan(small[1])


def test_moments_keep_nanoseconds_and_zone_also_when_rows_were_left_out():
    zoned = pyarrow.array([NANOS, 5, 6], pyarrow.timestamp("ns", "Europe/Berlin"))
    ds = aktis.data.from_arrow(pyarrow.table({"ts": zoned}))
    for kept in (
        ds.map_batches(lambda b: {"ts": b["ts"][b["ts"].astype("int64") != 6]}),
        ds.flat_map(lambda row: [row] if row["ts"].value != 6 else []),
    ):
        assert kept.to_arrow()["ts"].type == zoned.type
        assert kept.to_arrow()["ts"].cast(pyarrow.int64()).to_pylist() == [NANOS, 5]


def test_column_may_be_a_series_with_missing_values():
    ds = aktis.data.from_items([{"text": "a"}, {"text": None}])
    assert ds.add_column("y", lambda df: df["text"]).take_all() == [{"text": "a", "y": "a"}, {"text": None, "y": None}]
    made = ds.map_batches(lambda b: {"s": pandas.Series([1, None], dtype="Int64"), "o": pandas.Series([None, "x"])})
    assert made.take_all() == [{"s": 1, "o": None}, {"s": None, "o": "x"}]


def test_missing_values_of_pandas_are_null_in_rows_and_lists():
    frame = pandas.DataFrame(
        {"n": pandas.array([1, None], dtype="Int64"), "at": pandas.to_datetime(["2024-01-01", None])}
    )
    records = frame.to_dict("records")
    assert any(value is pandas.NaT for row in records for value in row.values())
    first = {"n": 1, "at": datetime.datetime(2024, 1, 1)}
    assert aktis.data.from_items(records).take_all() == [first, {"n": None, "at": None}]
    for missing in (pandas.NA, pandas.NaT):
        made = aktis.data.range(2).map(
            lambda row, missing=missing: {"at": missing if row["id"] else datetime.date(2024, 1, 1), "in": [missing, 1]}
        )
        assert made.take_all() == [{"at": datetime.date(2024, 1, 1), "in": [None, 1]}, {"at": None, "in": [None, 1]}]
        values = numpy.array([missing, 1], dtype=object)
        assert aktis.data.range(2, override_num_blocks=1).map_batches(
            lambda _, values=values: {"n": values}
        ).take_all() == [{"n": None}, {"n": 1}]


def test_uuids_are_uuids_in_rows_and_stay_what_they_are(tmp_path):
    keys = [uuid.UUID(int=1), None, uuid.UUID(int=2)]
    ds = aktis.data.from_items([{"key": key} for key in keys])
    assert [row["key"] for row in ds.map(lambda row: {"key": row["key"], "text": str(row["key"])}).take_all()] == keys
    assert ds.map(lambda row: row).to_arrow().schema.field("key").type == pyarrow.uuid()
    ds.map(lambda row: row).write_parquet(str(tmp_path / "keys"))
    assert [row["key"] for row in aktis.data.read_parquet(str(tmp_path / "keys")).take_all()] == keys


def test_intervals_that_pyarrow_cannot_hold_are_named_with_the_cast():
    ds = aktis.data.sql("select id, arrow_cast('1 day', 'Interval(DayTime)') as span from t", t=aktis.data.range(1))
    with pytest.raises(
        ValueError, match="'span' is a day_time_interval, whose values pyarrow cannot hold: with_column"
    ):
        ds.take_all()
    # A function that does not look at them hands them on.
    passed = ds.map_batches(lambda batch: batch, batch_format="pyarrow")
    assert passed.count() == 1
    cast = ds.with_column("span", aktis.data.expressions.col("span").cast(pyarrow.month_day_nano_interval()))
    assert cast.take_all() == [{"id": 0, "span": pyarrow.MonthDayNano([0, 1, 0])}]


def test_objects_of_python_are_refused_with_what_to_make_of_them():
    class Box:
        pass

    with pytest.raises(
        ValueError, match=r"column 'box', which cannot be stored: columns have .* no Box: .*pickle\.dumps"
    ):
        aktis.data.range(1).map(lambda row: {"box": Box()}).take_all()
    with pytest.raises(ValueError, match="does not fit into 64 bits: make a float, a decimal.Decimal or text of it"):
        aktis.data.from_items([{"n": 2**70}])


def test_arrays_may_stand_beside_none_and_in_dicts():
    def make(batch):
        images = [numpy.ones((2, 3), numpy.uint8) if row == 0 else None for row in batch["id"]]
        inside = [{"box": image} for image in images]
        return {"image": images, "inside": inside, "flat": [None if image is None else image[0] for image in images]}

    table = aktis.data.range(2).map_batches(make).to_arrow()
    assert table["flat"].type == pyarrow.list_(pyarrow.uint8()) and table["flat"].to_pylist() == [[1, 1, 1], None]
    assert table["inside"].to_pylist() == [{"box": [[1, 1, 1]] * 2}, {"box": None}]
    rows = aktis.data.range(2).map_batches(make).to_arrow()
    rows = aktis.data.from_arrow(rows).take_all()
    assert rows[0]["image"].shape == (2, 3) and rows[1]["image"] is None


def test_what_has_no_exact_place_is_refused_with_the_columns_name():
    ds = aktis.data.range(2)
    for wrong in ([2**70, 1], [object(), 1], [1, "a"], [2**60 + 1, 0.5], [numpy.ones((2, 2)), numpy.ones(2)]):
        with pytest.raises(ValueError, match="'wrong'"):
            ds.map_batches(lambda batch, wrong=wrong: {"wrong": wrong}).take_all()
