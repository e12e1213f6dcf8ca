"""Expressions: whatever pandas, Python or pyarrow say, on columns that are known and on columns that only a run shows."""

import asyncio
import datetime
import decimal
import itertools
import pickle
from typing import Any

import aktis.data
import aktis.testing
import pyarrow
import pyarrow.compute
import pytest
from aktis.data.expressions import (
    Expr,
    col,
    lit,
    monotonically_increasing_id,
    random,
    star,
    udf,
    unnest,
    uuid,
)
from aktis.exceptions import InvalidArgumentError

ROWS = [
    {"i": 7, "f": 2.5, "s": "Ada b", "b": True, "at": datetime.datetime(2024, 2, 29, 13, 45, 10), "l": [3, 1, None], "d": {"x": 1}},
    {"i": -7, "f": -0.5, "s": " ärger ", "b": False, "at": datetime.datetime(1999, 12, 31, 23, 59, 59), "l": [], "d": {"x": -2}},
    {"i": None, "f": None, "s": None, "b": None, "at": None, "l": None, "d": None},
    {"i": 0, "f": 1e9, "s": "", "b": True, "at": datetime.datetime(2026, 1, 1), "l": [5], "d": {"x": None}},
]  # fmt: skip
TABLE = pyarrow.Table.from_pylist(ROWS)
COMPUTE: Any = pyarrow.compute


def known():
    """A dataset whose columns are known."""
    return aktis.data.from_arrow(TABLE)


def unknown():
    """The same rows behind a function: only a run shows their columns."""
    return known().map_batches(lambda table: table, batch_format="pyarrow")


KINDS = {"known": known, "unknown": unknown}


@pytest.fixture(params=KINDS)
def ds(request):
    return KINDS[request.param]()


def value(expression, ds):
    return ds.with_column("out", expression).to_arrow()["out"].to_pylist()


def each(function, *names):
    """What a function of Python gives for each row; null where one of its columns is null."""
    return [None if any(row[n] is None for n in names) else function(*(row[n] for n in names)) for row in ROWS]


#: An expression, the function of Python that means the same, and the columns of both.
COMPUTED = [
    (col("i") + 1, lambda i: i + 1, "i"),
    (1 - col("i"), lambda i: 1 - i, "i"),
    (col("i") * col("f"), lambda i, f: i * f, "i", "f"),
    (col("f") / 2, lambda f: f / 2, "f"),
    (col("i") // 2, lambda i: i // 2, "i"),
    (col("i") // -2, lambda i: i // -2, "i"),
    (col("i") % 3, lambda i: i % 3, "i"),
    (col("f") // 2, lambda f: f // 2, "f"),
    (col("f") % -2, lambda f: f % -2, "f"),
    (17 % (col("f") + 3), lambda f: 17 % (f + 3), "f"),
    (-col("i"), lambda i: -i, "i"),
    (abs(col("i")), abs, "i"),
    (col("i") ** 2, lambda i: i**2, "i"),
    (col("s") + "!", lambda s: s + "!", "s"),
    ("<" + col("s") + col("s"), lambda s: "<" + s + s, "s"),
    (col("i") > 0, lambda i: i > 0, "i"),
    (col("i") <= col("f"), lambda i, f: i <= f, "i", "f"),
    (col("s") == "Ada b", lambda s: s == "Ada b", "s"),
    (col("at") >= datetime.datetime(2024, 1, 1), lambda at: at >= datetime.datetime(2024, 1, 1), "at"),
    (~col("b"), lambda b: not b, "b"),
    (col("f").ceil(), lambda f: -(-f // 1), "f"),
    (col("f").floor(), lambda f: f // 1, "f"),
    (col("f").trunc(), lambda f: float(int(f)), "f"),
    (col("i").cast(pyarrow.float32()), float, "i"),
    (col("i").cast(str), str, "i"),
    (col("d").struct["x"], lambda d: d["x"], "d"),
    (col("d").struct.field_by_index(0), lambda d: d["x"], "d"),
    (col("d").struct.field("x") + 1, lambda d: None if d["x"] is None else d["x"] + 1, "d"),
    (col("s").str.len(), len, "s"),
    (col("s").str.byte_len(), lambda s: len(s.encode()), "s"),
    (col("s").str.upper(), str.upper, "s"),
    (col("s").str.lower(), str.lower, "s"),
    (col("s").str.capitalize(), str.capitalize, "s"),
    (col("s").str.swapcase(), str.swapcase, "s"),
    (col("s").str.is_upper(), str.isupper, "s"),
    (col("s").str.is_ascii(), str.isascii, "s"),
    (col("s").str.starts_with("A"), lambda s: s.startswith("A"), "s"),
    (col("s").str.starts_with("a", ignore_case=True), lambda s: s.lower().startswith("a"), "s"),
    (col("s").str.ends_with(" "), lambda s: s.endswith(" "), "s"),
    (col("s").str.contains("er"), lambda s: "er" in s, "s"),
    (col("s").str.match("A%b"), lambda s: s.startswith("A") and s.endswith("b"), "s"),
    (col("s").str.match_regex("^.d"), lambda s: s[1:2] == "d", "s"),
    (col("s").str.count("a"), lambda s: s.count("a"), "s"),
    (col("s").str.find("b"), lambda s: s.find("b"), "s"),
    (col("s").str.reverse(), lambda s: s[::-1], "s"),
    (col("s").str.slice(1, 3), lambda s: s[1:3], "s"),
    (col("s").str.slice(-2), lambda s: s[-2:], "s"),
    (col("s").str.replace("a", "oo"), lambda s: s.replace("a", "oo"), "s"),
    (col("s").str.replace("a", "o", max_replacements=0), lambda s: s, "s"),
    (col("s").str.split(" "), lambda s: s.split(" "), "s"),
    (col("s").str.repeat(2), lambda s: s * 2, "s"),
    (col("s").str.strip(), str.strip, "s"),
    (col("s").str.lstrip(), str.lstrip, "s"),
    (col("s").str.rstrip("b "), lambda s: s.rstrip("b "), "s"),
    (col("s").str.pad(8, "*"), lambda s: s.ljust(8, "*"), "s"),
    (col("s").str.lpad(8, "*"), lambda s: s.rjust(8, "*"), "s"),
    (col("s").str.rpad(8), lambda s: s.ljust(8), "s"),
    (col("s").str.pad(3, "*", "left"), lambda s: s.rjust(3, "*"), "s"),
    (col("s").str.upper().str.len() + 1, lambda s: len(s.upper()) + 1, "s"),
    (col("l").list.len(), len, "l"),
    (col("l").list[0], lambda each: each[0] if each else None, "l"),
    (col("l").list.get(-1), lambda each: each[-1] if each else None, "l"),
    (col("l").list[0:2], lambda each: each[0:2], "l"),
    (col("l").list.sum(), lambda each: sum(i or 0 for i in each), "l"),
    (col("at").dt.year(), lambda at: at.year, "at"),
    (col("at").dt.month(), lambda at: at.month, "at"),
    (col("at").dt.day(), lambda at: at.day, "at"),
    (col("at").dt.hour(), lambda at: at.hour, "at"),
    (col("at").dt.minute(), lambda at: at.minute, "at"),
    (col("at").dt.second(), lambda at: at.second, "at"),
    (col("at").dt.strftime("%Y/%m"), lambda at: at.strftime("%Y/%m"), "at"),
    (col("at").dt.floor("day"), lambda at: at.replace(hour=0, minute=0, second=0), "at"),
    (col("at").dt.ceil("year"), lambda at: COMPUTE.ceil_temporal(pyarrow.scalar(at), unit="year").as_py(), "at"),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_expressions_mean_what_python_means(kind):
    # All of them in one run per kind, and each asked for by itself only where they differ.
    names = [f"c{number}" for number in range(len(COMPUTED))]
    table = KINDS[kind]().with_columns({name: case[0] for name, case in zip(names, COMPUTED, strict=True)}).to_arrow()
    for name, (expression, function, *columns) in zip(names, COMPUTED, strict=True):
        assert table[name].to_pylist() == each(function, *columns), expression


def test_tests_of_null_are_never_null(ds):
    nulls = [row["i"] is None for row in ROWS]
    assert value(col("i").is_null(), ds) == nulls
    assert value(col("i").is_not_null(), ds) == [not null for null in nulls]
    assert value(col("i").is_in([7, 0]), ds) == [True, False, False, True]
    assert value(col("i").is_in([7, None]), ds) == [True, False, True, False]
    assert value(col("i").not_in([7]), ds) == [False, True, True, True]
    assert value(col("i").is_in([]), ds) == [False] * 4
    assert value(col("s").is_in(lit(["", "x"])), ds) == [False, False, False, True]


def test_and_or_know_null_as_sql_does(ds):
    assert value(col("b") & (col("i") > 0), ds) == [True, False, None, False]
    assert value(col("b") | col("i").is_null(), ds) == [True, False, True, True]


def test_lists_are_sorted_and_flattened():
    items = [{"l": [3, None, 1], "n": [[1, 2], [3]]}, {"l": [], "n": [[], [4]]}]
    ds = aktis.data.from_items(items)
    sort = col("l").list.sort
    assert value(sort(), ds) == [[1, 3, None], []]
    assert value(sort("descending", "at_start"), ds) == [[None, 3, 1], []]
    assert value(col("n").list.flatten(), ds) == [[1, 2, 3], [4]]
    with pytest.raises(ValueError, match="order is one of"):
        sort("up")  # pyright: ignore[reportArgumentType]


def test_arrays_and_maps_are_lists():
    features = pyarrow.array([[1, 2], [3, 4]], pyarrow.list_(pyarrow.int64(), 2))
    attributes = pyarrow.array([[("a", 1)], [("b", 2), ("c", 3)]], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    ds = aktis.data.from_arrow(pyarrow.table({"f": features, "m": attributes}))
    assert ds.with_column("f", col("f").arr.to_list()).to_arrow()["f"].type == pyarrow.list_(pyarrow.int64())
    assert value(col("m").map.keys(), ds) == [["a"], ["b", "c"]]
    assert value(col("m").map.values().list.len(), ds) == [1, 2]


@pytest.mark.parametrize(
    "literal",
    [1, 1.5, "it's", b"\0", True, None, decimal.Decimal("1.25"), datetime.date(2026, 1, 2), [1, None], {"a": [1]},
     datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), datetime.timedelta(seconds=3), [], [["a"], []]],
)  # fmt: skip
def test_any_value_is_the_same_in_every_row(literal, ds):
    assert value(lit(literal), ds) == [literal] * len(ROWS)


def test_column_is_replaced_where_it_stands_and_others_stand_behind(ds):
    replaced = ds.with_columns({"s": col("i") + 1, "n": col("s")})
    assert replaced.to_arrow().column_names == [*TABLE.column_names, "n"]
    assert replaced.to_arrow()["n"].to_pylist() == TABLE["s"].to_pylist(), "it is over the columns that were there"
    assert ds.add_column("n", col("i") + 1).to_arrow()["n"].to_pylist() == [8, -6, None, 1]


def test_known_columns_stay_known_and_are_pruned():
    ds = known().with_column("n", col("i") + 1)
    assert ds.schema().names[-1] == "n" and ds.schema().types[-1] == pyarrow.int64()
    assert "projection=[i]" in ds.select_columns(["n"]).explain()


def test_columns_are_selected_by_expression():
    ds = known().select_columns(["i", (col("f") * 2).alias("twice"), col("s").str.len().alias("i2")])
    assert ds.to_arrow().column_names == ["i", "twice", "i2"]
    assert known().select_columns([col("i").alias("f"), col("f").alias("i")]).take(1) == [{"f": 7, "i": 2.5}]
    every = known().select_columns([star(), (col("i") + 1).alias("n")])
    assert every.columns() == [*TABLE.column_names, "n"]
    with pytest.raises(ValueError, match=r"\(col\('i'\) \+ 1\) needs a name"):
        known().select_columns([col("i") + 1])
    with pytest.raises(TypeError, match="nothing is computed of it"):
        known().with_column("x", star() + 1)


def test_filter_takes_expressions(ds):
    assert [row["i"] for row in ds.filter(expr=col("i") < 5).take_all()] == [-7, 0]
    assert ds.filter((col("i") > 0) | col("s").is_null()).count() == 2
    assert ds.filter(expr=col("s").str.is_upper() | (col("i") == 7)).count() == 1
    assert ds.filter(expr=col("i").not_in([7])).count() == 3
    assert ds.filter(expr=col("l").list.len() > 0).to_arrow().column_names == TABLE.column_names


def test_filter_goes_down_to_the_files(words):
    ds = aktis.data.read_parquet(words).filter(expr=col("id").is_in([3, 4]) & (col("word") != "x"))
    assert "full_filters" in ds.explain() and ds.count() == 2
    assert aktis.data.read_parquet(words, filter=col("id") < 3).count() == 3


def test_many_conditions_and_values_reach_the_workers():
    condition = col("id") == -1
    for number in range(150):
        condition = condition | (col("id") == number)
    assert aktis.data.range(1000).filter(expr=condition).count() == 150
    assert aktis.data.range(10_000).filter(expr=col("id").is_in(list(range(0, 10_000, 3)))).count() == 3334


@pytest.mark.parametrize(
    ("theirs", "ids"),
    [
        (COMPUTE.field("i") > 0, [7]),
        ((COMPUTE.field("i") == 7) | COMPUTE.field("s").isin(["", "x"]), [7, 0]),
        (~(COMPUTE.field("f") < 0) & COMPUTE.field("i").is_valid(), [7, 0]),
        (COMPUTE.field("d", "x") < 0, [-7]),
        (COMPUTE.field("at") >= pyarrow.scalar(datetime.datetime(2024, 1, 1)), [7, 0]),
        (COMPUTE.field("i").is_null(), [None]),
        ((COMPUTE.field("i") + 1) * 2 >= 2, [7, 0]),
        (COMPUTE.field("i").cast(pyarrow.string()) == "7", [7]),
    ],
    ids=str,
)
def test_filter_takes_expressions_of_pyarrow(theirs, ids, ds):
    assert [row["i"] for row in ds.filter(expr=theirs).take_all()] == ids


def test_text_of_rays_kind_is_read():
    ds = aktis.data.from_items([{"name": "a", "sepal.length": 4.0}, {"name": "b", "sepal.length": 6.0}])
    for each_ds in (ds, ds.map_batches(lambda table: table, batch_format="pyarrow")):
        assert [row["name"] for row in each_ds.filter(expr='name == "a"').take_all()] == ["a"]
        assert [row["name"] for row in each_ds.filter(expr="sepal.length > 5.0").take_all()] == ["b"]
    with pytest.raises(ValueError, match="nmae"):
        ds.filter(expr="\"nmae\" = 'a'")


def test_functions_in_python_are_parts_of_expressions(ds):
    @udf(return_dtype="int64")
    def total(numbers, others, *, factor=1):
        assert isinstance(numbers, pyarrow.Array)
        return COMPUTE.multiply(COMPUTE.add(numbers, others), factor)

    out = value(total(col("i"), col("i") * 2, factor=10) + 1, ds)
    assert out == each(lambda i: 30 * i + 1, "i")
    assert ds.filter(expr=total(col("i"), col("i")) == 14).to_arrow().column_names == TABLE.column_names

    @udf()
    class Adds:
        def __init__(self, number):
            self.number = number

        def __call__(self, numbers):
            return COMPUTE.add(numbers, self.number)

    assert value(Adds(5)(col("i")), ds) == each(lambda i: i + 5, "i")
    with pytest.raises(TypeError, match="needs a column among its arguments"):
        ds.with_column("x", total(1, 2))


def test_numbers_of_rows_are_unique_and_rise_in_a_block():
    ds = aktis.data.range(1000, override_num_blocks=4).with_columns(
        {"row": monotonically_increasing_id(), "key": uuid(), "draw": random(seed=3)}
    )
    table = ds.to_arrow()
    rows = table["row"].to_pylist()
    assert len(set(rows)) == len(set(table["key"].to_pylist())) == len(set(table["draw"].to_pylist())) == 1000
    assert sum(later - row == 1 for row, later in itertools.pairwise(rows)) == 996
    assert 0.4 < sum(table["draw"].to_pylist()) / 1000 < 0.6
    assert ds.to_arrow().sort_by("id") == table.sort_by("id"), "another run of the same dataset gives the same"
    assert 0 < aktis.data.range(1000).filter(expr=random() < 0.5).count() < 1000


def test_expression_has_no_truth():
    for use in (
        lambda: col("a") > 1 and col("b") > 1,
        lambda: not col("a"),
        lambda: 1 < col("a") < 5,
        lambda: bool(col("a")),
        lambda: 1 in col("a"),
    ):
        with pytest.raises(TypeError, match="is_in\\(\\)|has no items"):
            use()


def test_mistakes_are_told_when_they_are_made():
    ds = known()
    with pytest.raises(ValueError, match=r"with_columns\(\): there is no column 'nope'; the columns are 'i', 'f'"):
        ds.with_column("x", col("nope") + 1)
    with pytest.raises(ValueError, match=r"filter\(\): there is no column 'nope'"):
        ds.filter(expr=col("nope") > 1)
    with pytest.raises(ValueError, match=r"i is Int64, s is Utf8"):
        ds.with_column("x", col("s") * col("i"))
    with pytest.raises(ValueError, match="non-boolean"):
        ds.filter(expr=col("i") + 1)
    with pytest.raises(TypeError, match=r"takes an expression, such as col\('a'\) \+ 1, not 3"):
        ds.with_column("x", 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="is no type: give one of pyarrow"):
        ds.with_column("x", col("i").cast("number"))
    with pytest.raises(TypeError, match="cannot be a value of a column"):
        ds.with_column("x", lit(object()))
    with pytest.raises(TypeError, match="takes a list of values, not 'abc'"):
        col("s").is_in("abc")
    with pytest.raises(AttributeError, match="did you mean 'random'|Did you mean 'random'"):
        aktis.data.expressions.randm()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="UDFExpr of Ray is not in Aktis yet"):
        aktis.data.expressions.UDFExpr("a")  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="UnnestExpr of Ray is not in Aktis yet: expressions are of one class"):
        from aktis.data.expressions import UnnestExpr  # type: ignore[attr-defined] # noqa: F401 # pyright: ignore[reportAttributeAccessIssue]


def test_nan_is_greater_than_any_number_in_filters():
    rows = aktis.data.from_items([{"x": 1.0}, {"x": float("nan")}, {"x": 2.0}, {"x": None}])
    assert [str(row["x"]) for row in rows.filter(expr=col("x") > 1).take_all()] == ["nan", "2.0"]
    assert rows.filter(expr=(col("x") > 1) & (col("x") != lit(float("nan")))).take_all() == [{"x": 2.0}]


def test_mistakes_about_unknown_columns_are_told_by_the_run():
    with pytest.raises(InvalidArgumentError, match=r"nope.*the columns are 'i', 'f'"):
        unknown().with_column("x", col("nope") + 1).take_all()


def test_dataset_with_expressions_is_pickled():
    ds = known().with_column("n", col("i").is_in([7]) | (col("at") > datetime.datetime(2025, 1, 1)))
    again = pickle.loads(pickle.dumps(ds.filter(expr=col("n"))))
    assert [row["i"] for row in again.take_all()] == [7, 0]


def test_expressions_are_compared_and_shown():
    expression = (col("a") + 1 > lit(2)) & ~col("b").is_null()
    assert repr(expression) == "(((col('a') + 1) > 2) & ~col('b').is_null())"
    assert expression.structurally_equals((col("a") + 1 > 2) & ~col("b").is_null())
    assert not lit(1).structurally_equals(lit(1.0))
    assert not col("a").alias("b").structurally_equals(col("a"))
    assert isinstance(col("a") == col("b"), Expr)
    assert len({col("a"), col("a")}) == 2


def test_columns_that_nobody_reads_can_be_dropped_renamed_and_chosen_behind_a_function():
    @udf(return_dtype="int64")
    def plus(numbers):
        return COMPUTE.add(numbers, 1)

    made = aktis.data.from_items([{"id": 1, "other": 2, "more": 3}]).with_column("x", plus(col("id")))
    assert made.drop_columns(["other"]).take_all() == [{"id": 1, "more": 3, "x": 2}]
    assert made.drop_columns(["other", "more"]).select_columns(["x"]).take_all() == [{"x": 2}]
    renamed = made.rename_columns({"other": "o", "id": "key"})
    assert renamed.drop_columns(["o"]).take_all() == [{"key": 1, "more": 3, "x": 2}]
    assert renamed.select_columns(["x", "key"]).take_all() == [{"x": 2, "key": 1}]
    chosen = made.select_columns(["x", "other"])
    assert chosen.select_columns(["x"]).take_all() == [{"x": 2}] and chosen.count() == 1
    with pytest.raises(ValueError, match="drop_columns.*there is no column 'nope'"):
        made.drop_columns(["nope"]).take_all()


def test_fields_become_columns():
    @udf(return_dtype=pyarrow.struct({"sum": pyarrow.int64(), "pair": pyarrow.struct({"x": pyarrow.int64()})}))
    def both(numbers):
        pairs = pyarrow.StructArray.from_arrays([numbers], ["x"])
        return pyarrow.StructArray.from_arrays([COMPUTE.add(numbers, 1), pairs], ["sum", "pair"])

    ds = aktis.data.range(2)
    # What a function before it makes is not known, but what this one does is declared.
    for source in (ds, ds.map_batches(lambda batch: batch)):
        made = source.with_columns({"twice": col("id") * 2}, unnest(both(col("id"))))
        assert made.explain().count("Udf(both)") == ds.with_column("x", both(col("id"))).explain().count("Udf(both)")
        assert made.take_all() == [
            {"id": 0, "twice": 0, "sum": 1, "pair": {"x": 0}},
            {"id": 1, "twice": 2, "sum": 2, "pair": {"x": 1}},
        ]
    rows = [{"s": {"a": 1, "s": "x"}}, {"s": None}]
    made = aktis.data.from_items(rows).with_columns(unnest(col("s")))
    assert made.take_all() == [{"s": "x", "a": 1}, {"s": None, "a": None}]
    assert ds.with_columns().take_all() == ds.take_all()


def test_mistakes_with_fields_are_named():
    ds = aktis.data.from_items([{"s": {"a": 1}, "n": 1}])
    with pytest.raises(TypeError, match="unnest.*no dict of fixed names, but int64"):
        ds.with_columns(unnest(col("n")))
    with pytest.raises(ValueError, match="its names are known only when rows are made.*return_dtype"):
        ds.map_batches(lambda batch: batch).with_columns(unnest(col("s")))
    with pytest.raises(ValueError, match="two of its arguments give a column 'a'"):
        ds.with_columns({"a": col("n")}, unnest(col("s")))
    with pytest.raises(TypeError, match=r"takes a dict from name to expression, or unnest\(\)"):
        ds.with_columns(col("n"))
    for wrong in (lambda: ds.with_column("x", unnest(col("s"))), lambda: ds.select_columns([unnest(col("s"))])):
        with pytest.raises(TypeError, match=r"stands for several columns: give it to with_columns\(\)"):
            wrong()
    with pytest.raises(TypeError, match="unnest each of those that are dicts in another"):
        unnest(unnest(col("s")))
    with pytest.raises(
        AttributeError, match=r"Expr\.to_pyarrow\(\) of Ray is not in Aktis yet: it is computed by the engine"
    ):
        getattr(col("s"), "to_pyarrow")  # noqa: B009


def test_async_functions_are_called_with_columns():
    @udf(return_dtype="int64")
    async def double(numbers):
        await asyncio.sleep(0.001)
        return COMPUTE.multiply(numbers, 2)

    @udf(return_dtype="int64")
    class Last:
        def __init__(self, offset):
            self.offset = offset

        async def __call__(self, numbers):
            yield numbers
            yield COMPUTE.add(numbers, self.offset)

    ds = aktis.data.range(5).with_columns({"twice": double(col("id")), "last": Last(10)(col("id") + 1)})
    assert ds.take_all() == [{"id": n, "twice": 2 * n, "last": n + 11} for n in range(5)]
    with pytest.raises(TypeError, match="is async: call it by with_column"):
        ds.groupby("id").with_column("x", double(col("id")))


def test_text_of_few_values_is_joined_as_other_text():
    words = pyarrow.array(["a", None, "b"]).dictionary_encode()
    ds = aktis.data.from_arrow(pyarrow.table({"word": words}))
    joined = ds.with_columns({"x": col("word") + "_x", "y": "y_" + col("word")}).select_columns(["x", "y"])
    assert joined.take_all() == [{"x": "a_x", "y": "y_a"}, {"x": None, "y": None}, {"x": "b_x", "y": "y_b"}]


def test_columns_that_are_chosen_behind_a_function_need_not_be_wanted_later():
    @udf(return_dtype="int64")
    def same(numbers):
        return numbers

    with aktis.testing.local():
        ds = aktis.data.from_items([{"id": 1, "place": 3}]).with_column("t", same(col("id")))
        assert ds.drop_columns(["place"]).take_all() == [{"id": 1, "t": 1}]
        assert ds.rename_columns({"place": "p"}).drop_columns(["p"]).take_all() == [{"id": 1, "t": 1}]
        assert ds.select_columns(["t", "place"]).drop_columns(["place"]).take_all() == [{"t": 1}]
