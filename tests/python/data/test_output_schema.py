"""Columns that functions are declared to return: known before anything runs, and held against what they return."""

import datetime

import aktis.data
import numpy
import pandas
import pyarrow
import pytest
from pyarrow import parquet


def never(batch):
    raise AssertionError("the plan knows the columns")


DECLARED = {"id": int, "score": "float32", "tags": list[str], "box": {"x": float}, "at": datetime.datetime}


@pytest.mark.parametrize("call", ["map_batches", "map", "flat_map"])
def test_declared_columns_are_known_without_running(call):
    ds = getattr(aktis.data.range(3), call)(never, output_schema=DECLARED)
    assert ds.columns() == list(DECLARED)
    assert ds.schema().types == [
        pyarrow.int64(), pyarrow.float32(), pyarrow.list_(pyarrow.string()), pyarrow.struct([("x", pyarrow.float64())]),
        pyarrow.timestamp("us"),
    ]  # fmt: skip
    assert "score: float" in repr(ds)
    with pytest.raises(ValueError, match="scor"):
        ds.select_columns(["scor"])


def test_columns_that_pass_by_stand_before_the_declared_ones(words):
    ds = aktis.data.read_parquet(words)
    ds = ds.map_batches(never, input_columns=["id"], passthrough_columns=["word"], output_schema={"double": int})
    assert ds.columns() == ["word", "double"]


def test_schema_of_another_dataset_and_of_pyarrow_can_be_declared():
    schema = aktis.data.range(1).schema()
    assert aktis.data.range(1).map(never, output_schema=schema).schema() == schema
    assert aktis.data.range(1).map(never, output_schema=schema.base_schema).schema() == schema


def test_sql_runs_nothing_to_learn_the_columns():
    numbers = aktis.data.range(6).map_batches(never, output_schema={"n": int, "even": bool})
    asked = aktis.data.sql("select sum(n) as s from numbers where even", numbers=numbers)
    assert asked.columns() == ["s"]
    real = aktis.data.range(6).map_batches(
        lambda batch: {"n": batch["id"], "even": batch["id"] % 2 == 0}, output_schema={"n": int, "even": bool}
    )
    assert aktis.data.sql("select sum(n) as s from real where even", real=real).take_all() == [{"s": 6}]


def test_rows_of_a_step_that_gives_none_have_the_columns(tmp_path):
    ds = aktis.data.range(5).flat_map(lambda row: [], output_schema={"a": "int8", "b": str})
    assert ds.to_arrow().schema.names == ["a", "b"]
    empty = aktis.data.range(5).map_batches(lambda batch: pandas.DataFrame(), output_schema={"a": "int8", "b": str})
    assert empty.to_arrow().schema.types == [pyarrow.int8(), pyarrow.string()]
    both = ds.union(aktis.data.range(1).map(lambda row: {"a": 1, "b": "x"}, output_schema={"a": "int8", "b": str}))
    assert both.take_all() == [{"a": 1, "b": "x"}]
    ds.write_parquet(tmp_path / "none")
    for file in (tmp_path / "none").glob("*.parquet"):
        assert parquet.read_schema(file).names == ["a", "b"]


def test_values_without_a_type_get_the_declared_one():
    def make(batch):
        rows = len(batch["id"])
        return {"small": [1] * rows, "none": [None] * rows, "vector": [[1.0, 2.0]] * rows, "box": [{"x": 1}] * rows}

    declared = {
        "vector": pyarrow.list_(pyarrow.float32(), 2), "small": "int8", "none": str, "box": {"x": float, "y": str},
    }  # fmt: skip
    for ds in (
        aktis.data.range(2).map_batches(make, output_schema=declared),
        aktis.data.range(2).map(lambda row: {k: v[0] for k, v in make({"id": [0]}).items()}, output_schema=declared),
    ):
        assert ds.schema() == aktis.data.dataset.Schema(ds.to_arrow().schema)
        row = {"vector": [1.0, 2.0], "small": 1, "none": None, "box": {"x": 1.0, "y": None}}
        assert [{**row, "vector": list(row["vector"])} for row in ds.take_all()] == [row] * 2


def test_all_differences_are_told_column_by_column():
    def scored(batch):
        return {"scroe": batch["id"] / 2, "id": batch["id"].astype("float64"), "debug": batch["id"]}

    ds = aktis.data.range(4).map_batches(scored, output_schema={"id": int, "score": float, "label": str})
    with pytest.raises(ValueError, match="other columns than its output_schema") as caught:
        ds.take_all()
    told = str(caught.value)
    for text in (
        "missing: 'score' (double); is it 'scroe', which is not declared?",
        "missing: 'label' (string)",
        "extra: 'debug' (int64)",
        "other type: 'id': double, and not int64",
        "leave out those that are extra",
        "column.astype(...)",
    ):
        assert text in told


def test_every_batch_is_looked_at():
    def late(batch):
        return {"x": batch["id"] if batch["id"][0] < 90 else batch["id"].astype("int32")}

    ds = aktis.data.range(100).map_batches(late, batch_size=10, output_schema={"x": int})
    with pytest.raises(ValueError, match="'x': int32, and not int64"):
        ds.take_all()


@pytest.mark.parametrize(("values", "kind", "told"), [
    ([1, 2**40], "int32", "2147483647"),
    ([1.5, 2.0], int, "double, and not int64"),
    ([1, 2], str, "int64, and not string"),
    ([True, False], int, "bool, and not int64"),
    (numpy.array([1, 2]), float, "int64, and not double"),
    ([[1], [1, 2]], pyarrow.list_(pyarrow.int64(), 2), "size"),
])  # fmt: skip
def test_nothing_is_rounded_cut_or_read_as_something_else(values, kind, told):
    ds = aktis.data.range(2, override_num_blocks=1).map_batches(lambda batch: {"x": values}, output_schema={"x": kind})
    with pytest.raises(ValueError, match=told):
        ds.take_all()


def test_null_is_refused_where_it_is_declared_that_there_is_none():
    schema = pyarrow.schema([pyarrow.field("x", pyarrow.int64(), nullable=False)])
    good = aktis.data.range(2).map(lambda row: {"x": row["id"]}, output_schema=schema)
    assert good.take_all() == [{"x": 0}, {"x": 1}]
    bad = aktis.data.range(2).map(lambda row: {"x": row["id"] or None}, output_schema=schema)
    with pytest.raises(ValueError, match="null, and it is declared not null"):
        bad.take_all()


REQUIRED = pyarrow.field("item", pyarrow.int64(), nullable=False)


@pytest.mark.parametrize(("kind", "value"), [
    (pyarrow.list_(REQUIRED), [None]),
    (pyarrow.list_(pyarrow.list_(REQUIRED)), [[1], [None]]),
    (pyarrow.struct([REQUIRED]), {"item": None}),
    (pyarrow.map_(pyarrow.string(), REQUIRED), {"a": None}),
])  # fmt: skip
def test_null_within_a_value_is_of_the_row_that_has_it(kind, value):
    ds = aktis.data.range(4).map(
        lambda row: {"p": value if row["id"] == 2 else None}, output_schema={"p": kind}, on_error="dead_letter"
    )
    assert ds.take_all() == [{"p": None}] * 3
    (dead,) = ds.dead_letters().take_all()
    assert dead["row"] == {"id": 2}
    assert "declared not null" in dead["message"] or "non-nullable field 'item'" in dead["message"]


@pytest.mark.parametrize(("kind", "value"), [
    ("float32", 1e300),
    ("float16", 100_000),
    (pyarrow.list_(pyarrow.float32()), [1.0, -1e300]),
    ({"x": "float32"}, {"x": 1e300}),
    (pyarrow.map_(pyarrow.string(), pyarrow.float32()), {"a": 1e300}),
    (pyarrow.fixed_shape_tensor(pyarrow.float32(), [1]), [1e300]),
])  # fmt: skip
def test_float_that_is_too_large_does_not_become_infinite(kind, value):
    with pytest.raises(ValueError, match="some values are too large for it"):
        aktis.data.range(1).map(lambda row: {"p": value}, output_schema={"p": kind}).take_all()


def test_infinite_floats_stay():
    inf = float("inf")
    schema = {"p": "float32", "m": pyarrow.map_(pyarrow.string(), pyarrow.float32())}
    ds = aktis.data.range(1).map(lambda row: {"p": inf, "m": {"a": -inf}}, output_schema=schema)
    assert ds.to_arrow().to_pylist() == [{"p": inf, "m": [("a", -inf)]}]


@pytest.mark.parametrize("rows", [{"nope": []}, pandas.DataFrame({"nope": []}), pyarrow.table({"nope": []})])
def test_names_are_looked_at_where_there_are_no_rows(rows):
    with pytest.raises(ValueError, match="missing: 'x'"):
        aktis.data.range(2).map_batches(lambda batch: rows, output_schema={"x": int}).take_all()


@pytest.mark.parametrize(("kind", "value", "stored"), [
    (pyarrow.map_(pyarrow.string(), pyarrow.int64()), {"a": 1, "b": None}, [("a", 1), ("b", None)]),
    (pyarrow.map_(pyarrow.string(), pyarrow.int64()), [("a", 1)], [("a", 1)]),
    (pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.float32())), {"a": numpy.ones(2)}, [("a", [1.0, 1.0])]),
    (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "a", "a"),
    (pyarrow.list_(pyarrow.list_(pyarrow.float32())), numpy.ones((2, 2)), [[1.0, 1.0], [1.0, 1.0]]),
    (list[list[float]], [numpy.ones(1), [1, 2]], [[1.0], [1.0, 2.0]]),
    ({"m": list[list[int]]}, {"m": [[1], []]}, {"m": [[1], []]}),
])  # fmt: skip
@pytest.mark.parametrize("call", ["map", "flat_map"])
def test_types_that_no_guess_leads_to_are_made_of_rows(kind, value, stored, call):
    def make(row):
        made = {"p": value if row["id"] else None, "id": row["id"]}
        return made if call == "map" else [made]

    ds = getattr(aktis.data.range(2), call)(make, output_schema={"p": kind, "id": int})
    made = ds.to_arrow()
    assert made.column("p").to_pylist() == [None, stored]
    assert made.schema.types == ds.schema().types


def test_tensors_of_a_declared_shape_are_made_of_rows():
    kind = pyarrow.fixed_shape_tensor(pyarrow.float32(), [2, 3])
    for value in (numpy.ones((2, 3), "float32"), numpy.ones((2, 3), "int64"), [[1, 1, 1]] * 2):
        ds = aktis.data.range(2).map(lambda row, value=value: {"p": value}, output_schema={"p": kind})
        assert ds.to_arrow().schema.types == [kind]
        assert [row["p"].tolist() for row in ds.take_all()] == [[[1.0] * 3] * 2] * 2
    wrong = aktis.data.range(2).map(lambda row: {"p": numpy.ones((3, 2))}, output_schema={"p": kind})
    with pytest.raises(ValueError, match=r"the shape of a value is \[3, 2\]"):
        wrong.take_all()


@pytest.mark.parametrize(("kind", "value", "told"), [
    (pyarrow.map_(pyarrow.string(), pyarrow.int64()), {"a": 1.5}, "float, and not int64"),
    (pyarrow.map_(pyarrow.string(), pyarrow.int64()), {1: 1}, "int, and not string"),
    (pyarrow.map_(pyarrow.string(), pyarrow.int64()), [1], "neither a dict nor a list of pairs"),
    (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), 3, "int, and not string"),
    (list[list[int]], [[1.5]], "float, and not int64"),
    (pyarrow.list_(pyarrow.list_(pyarrow.struct([("x", pyarrow.int64())]))), [[{"y": 1}]], "'y', which is not declared"),
])  # fmt: skip
def test_what_is_made_of_rows_loses_nothing_either(kind, value, told):
    with pytest.raises(ValueError, match=told):
        aktis.data.range(1).map(lambda row: {"p": value}, output_schema={"p": kind}).take_all()


def test_row_that_lacks_a_column_fails_whatever_came_with_it():
    def some(row):
        return {"a": 1, "b": 2} if row["id"] != 3 else {"a": 1}

    ds = aktis.data.range(6).map(some, output_schema={"a": int, "b": int}, on_error="dead_letter")
    assert ds.count() == 5
    (dead,) = ds.dead_letters().take_all()
    assert dead["row"] == {"id": 3}
    assert dead["error"] == "ValueError"
    assert "missing: 'b' (int64)" in dead["message"]


@pytest.mark.parametrize("call", ["map", "flat_map"])
def test_rows_of_another_type_are_the_ones_that_fail(call):
    def make(row):
        made = {"x": "three" if row["id"] == 3 else row["id"]}
        return made if call == "map" else iter([made, made])

    ds = getattr(aktis.data.range(6), call)(make, output_schema={"x": int}, on_error="dead_letter")
    assert {row["x"] for row in ds.take_all()} == {0, 1, 2, 4, 5}
    assert [dead["row"] for dead in ds.dead_letters().take_all()] == [{"id": 3}]


def test_batch_of_other_columns_is_searched_for_the_rows():
    def make(batch):
        return {"x": batch["id"] * (1.5 if 7 in batch["id"] else 1)}

    ds = aktis.data.range(16).map_batches(make, batch_size=16, output_schema={"x": int}, on_error="dead_letter")
    assert sorted(row["x"] for row in ds.take_all()) == [i for i in range(16) if i != 7]
    (dead,) = ds.dead_letters().take_all()
    assert dead["row"] == {"id": 7}
    assert "other type: 'x'" in dead["message"]


def test_generators_and_async_functions_are_looked_at():
    def several(batch):
        yield {"x": batch["id"]}
        yield {"y": batch["id"]}

    async def one(batch):
        return {"y": batch["id"]}

    for function in (several, one):
        with pytest.raises(ValueError, match="missing: 'x'"):
            aktis.data.range(2).map_batches(function, output_schema={"x": int}).take_all()


@pytest.mark.parametrize(("wanted", "told"), [
    ({"x": "flaot"}, "'flaot' is no type, for the column 'x'"),
    ({"x": list}, "list is no type"),
    ({"x": None}, "None is no type, for the column 'x'"),
    ([("x", int)], "a dict from column to type"),
    ({}, "at least one column"),
    ({1: int}, "strings, not 1"),
    (pyarrow.schema([("x", "int8"), ("x", "int8")]), "two columns have the name 'x'"),
])  # fmt: skip
def test_what_is_no_schema_is_refused_where_it_is_written(wanted, told):
    with pytest.raises((TypeError, ValueError), match=told):
        aktis.data.range(1).map(never, output_schema=wanted)


def test_filter_has_no_schema():
    with pytest.raises(TypeError, match="output_schema"):
        aktis.data.range(1).filter(never, output_schema={"x": int})  # pyright: ignore[reportCallIssue]
