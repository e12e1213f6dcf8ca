"""Batches that differ: what is written can be read, and what is handed out keeps its type."""

import aktis.data
import numpy
import pyarrow
import pytest
from pyarrow import parquet


def half(batch, first, second):
    """One kind of value in the first half of a thousand rows, another in the second."""
    return {"id": batch["id"], "x": [first if row < 500 else second for row in batch["id"]]}


def drifting(first, second, batch_size=50):
    return aktis.data.range(1000).map_batches(half, fn_args=(first, second), batch_size=batch_size)


def one_type(folder):
    """The type that all files of a folder have for `x`."""
    kinds = {parquet.read_schema(path).field("x").type for path in folder.glob("*.parquet")}
    assert len(kinds) == 1, kinds
    return kinds.pop()


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (None, "text", pyarrow.string()),
        ("text", None, pyarrow.string()),
        (1, 0.5, pyarrow.float64()),
        (0.5, 1, pyarrow.float64()),
        ([], [0.5], pyarrow.list_(pyarrow.float64())),
        ({"a": 1}, {"b": 2}, pyarrow.struct({"a": pyarrow.int64(), "b": pyarrow.int64()})),
        ([{"a": 1, "b": 2}], [{"b": 3, "c": 4}], None),
        (1, 2**63, None),
        (numpy.ones((2, 2)), numpy.ones((3, 2)), None),
    ],
)
def test_wider_type_that_comes_later_is_that_of_all_files_and_they_are_read_again(first, second, kind, tmp_path):
    if isinstance(second, int) and second > 1 << 62:
        with pytest.raises(ValueError, match="'x' is Int64 .* and UInt64") as caught:
            drifting(first, second).write_parquet(tmp_path)
        assert ".parquet" in str(caught.value) or "rows" in str(caught.value)
        assert not list(tmp_path.glob("*.parquet"))
        return
    drifting(first, second).write_parquet(tmp_path)
    found = one_type(tmp_path)
    assert kind is None or found == kind
    assert parquet.read_table(tmp_path).num_rows == 1000, "others can read it too"
    rows = sorted(aktis.data.read_parquet(tmp_path).take_all(), key=lambda row: row["id"])
    for row, value in ((rows[0], first), (rows[999], second)):
        if isinstance(value, dict):
            assert {name: inner for name, inner in row["x"].items() if inner is not None} == value
        elif isinstance(value, numpy.ndarray):
            assert numpy.array_equal(row["x"], value)
        elif value and isinstance(value, list) and isinstance(value[0], dict):
            assert {name: inner for name, inner in row["x"][0].items() if inner is not None} == value[0]
        else:
            assert row["x"] == value


def test_fields_of_structs_are_never_mixed_up(tmp_path):
    """COL-1 (by-name)."""

    def swap(batch):
        for i in batch["id"]:
            yield {"id": [i], "s": [{"price": 1, "amount": 20} if i % 2 == 0 else {"amount": 21, "tax": 3}]}

    ds = aktis.data.range(4).map_batches(swap, batch_size=4)
    ds.write_parquet(tmp_path)
    even, odd = {"price": 1, "amount": 20, "tax": None}, {"price": None, "amount": 21, "tax": 3}
    for rows in (aktis.data.read_parquet(tmp_path).take_all(), ds.to_arrow().to_pylist()):
        assert [row["s"] for row in rows] == [even, odd, even, odd]


def test_nullable_integers_stay_whole_numbers_whatever_the_batches(tmp_path):
    values = pyarrow.array([None if i == 35 else i for i in range(40)], pyarrow.int64())
    source = aktis.data.from_arrow(pyarrow.table({"id": range(40), "x": values}))
    for batch_format in ("numpy", "pandas"):
        same = source.map_batches(lambda batch: batch, batch_size=10, batch_format=batch_format)
        assert same.to_arrow()["x"].equals(pyarrow.chunked_array([values]))
        assert sum(len(batch["x"]) for batch in same.iter_batches(batch_size=16)) == 40
        out = tmp_path / batch_format
        same.write_parquet(out)
        assert one_type(out) == pyarrow.int64()


def test_rows_that_were_handed_out_keep_their_type():
    whole = drifting(1, 2.0).iter_batches(batch_size=64, batch_format="pyarrow")
    assert {batch["x"].type for batch in whole} == {pyarrow.int64()}
    with pytest.raises(ValueError, match="'x' is Int64 in the rows before .* and Float64 in the rows") as caught:
        list(drifting(1, 0.5).iter_batches(batch_size=64))
    assert "iter_batches()" in str(caught.value)
    assert sum(batch["x"].sum() for batch in drifting(0.5, 1).iter_batches(batch_size=64)) == 750


def test_nulls_and_empty_lists_that_were_handed_out_get_a_type_later():
    for first, second in ((None, "text"), ([], [0.5])):
        batches = list(drifting(first, second).iter_batches(batch_size=64, batch_format="pyarrow"))
        assert sum(batch.num_rows for batch in batches) == 1000
        assert batches[-1]["x"].to_pylist()[-1] == second


def test_batches_of_other_columns_are_put_together():
    def uneven(batch):
        return {"id": batch["id"]} if batch["id"][0] < 50 else {"id": batch["id"], "more": batch["id"]}

    ds = aktis.data.range(100).map_batches(uneven, batch_size=50)
    assert sorted(numpy.concatenate([batch["id"] for batch in ds.iter_batches(batch_size=30)])) == list(range(100))
    table = ds.to_arrow()
    assert table.column_names == ["id", "more"] and table["more"].null_count == 50


def test_materialised_rows_have_one_schema():
    made = drifting(None, "text").materialize()
    assert made.schema().types[1] == pyarrow.string()
    assert made.filter(expr="x = 'text'").count() == 500
    assert {batch["x"].type for batch in made.iter_batches(batch_size=100, batch_format="pyarrow")} == {
        pyarrow.string()
    }


def test_tables_of_one_dataset_are_put_together():
    one, other = pyarrow.table({"a": [1], "b": ["x"]}), pyarrow.table({"b": [None], "c": [1.5]})
    assert aktis.data.from_arrow([one, other]).take_all() == [
        {"a": 1, "b": "x", "c": None}, {"a": None, "b": None, "c": 1.5},
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'a' is Int64 in part 0 and Utf8 in part 1"):
        aktis.data.from_arrow([one, pyarrow.table({"a": ["x"]})])


@pytest.mark.parametrize(
    "how", ["map_batches", "filter", "filter of nothing", "flat_map", "source", "behind a limit", "union"]
)
def test_result_without_rows_keeps_its_columns_and_is_written_and_read(how, tmp_path):
    ds = aktis.data.range(10)
    if how == "map_batches":
        ds = ds.map_batches(lambda batch: {"id": batch["id"][:0], "v": numpy.empty((0, 2), numpy.float32)})
        assert ds.schema().names == ["id", "v"]
        assert ds.to_arrow().schema.field("v").type == pyarrow.list_(pyarrow.float32(), 2)
    elif how == "filter":
        ds = ds.map_batches(lambda batch: batch).filter(lambda row: False)
        assert ds.schema().names == ["id"]
    elif how == "filter of nothing":
        ds = ds.map_batches(lambda batch: {"id": batch["id"][:0]}).filter(lambda row: True)
        assert ds.schema().names == ["id"]
    elif how == "flat_map":
        ds = ds.flat_map(lambda row: [])
    elif how == "behind a limit":
        nothing = ds.map_batches(lambda batch: {"id": batch["id"][:0], "v": batch["id"][:0]})
        ds = nothing.limit(5).rename_columns({"v": "w"}).filter(expr="w > 3").select_columns(["w"])
        assert ds.schema().names == ["w"] and ds.to_arrow().schema.names == ["w"]
        assert nothing.drop_columns(["v"]).schema().names == ["id"]
    elif how == "union":
        nothing = ds.map_batches(lambda batch: {"v": batch["id"][:0]})
        ds = nothing.union(ds.filter(expr="id > 100"))
        assert ds.schema().names == ["v", "id"]
    else:
        ds = ds.filter(expr="id > 100")
        assert ds.schema().names == ["id"]
    assert ds.take_all() == [] and ds.count() == 0
    ds.write_parquet(tmp_path)
    read = aktis.data.read_parquet(tmp_path)
    assert read.count() == 0 and read.take_all() == []
    if how != "flat_map":
        assert read.schema().names == ds.schema().names
