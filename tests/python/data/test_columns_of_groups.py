"""Columns that expressions add to the rows of groups."""

from typing import Any

import aktis.data
import pyarrow.compute
import pytest
from aktis.data.expressions import col, lit, udf

# Its functions are made when it is imported: no checker sees them.
compute: Any = pyarrow.compute


@udf("float64")
def share(values):
    return compute.divide(values.cast("float64"), compute.sum(values).cast("float64"))


@udf()
class Ranked:
    """The place of each value in its group, counted from a number on."""

    def __init__(self, first):
        self.first = first

    def __call__(self, values):
        return compute.add(compute.rank(values), self.first - 1)


def numbers():
    return aktis.data.from_items([{"k": n % 3, "v": n} for n in range(30)], override_num_blocks=7)


def test_function_gets_the_rows_of_one_group_and_no_others():
    rows = numbers().groupby("k").with_column("share", share(col("v")) * lit(100)).take_all()
    sums = {k: sum(n for n in range(30) if n % 3 == k) for k in range(3)}
    assert sorted(row["v"] for row in rows) == list(range(30))
    assert all(row["share"] == pytest.approx(100 * row["v"] / sums[row["k"]]) for row in rows)


def test_class_is_made_once_and_may_stand_beside_a_function():
    grouped = numbers().groupby(["k"])
    rows = grouped.with_column("v", Ranked(10)(col("v")) + share(col("v")) * 0).sort(["k", "v"]).take_all()
    assert [(row["k"], row["v"]) for row in rows] == [(k, float(n)) for k in range(3) for n in range(10, 20)]


def test_what_the_engine_computes_makes_no_groups():
    ds = numbers().groupby("k").with_column("twice", col("v") * 2)
    assert ds.sort("v").take(2) == [{"k": 0, "v": 0, "twice": 0}, {"k": 1, "v": 1, "twice": 2}]
    assert "Exchange" not in ds.explain() and "Sort" not in ds.explain()


def test_workers_of_functions_get_what_they_need():
    ds = numbers().groupby("k").with_column("share", share(col("v")), resources={"licence": 1}, concurrency=1)
    assert "licence" in ds.explain()


def test_all_rows_are_one_group_without_keys():
    rows = numbers().groupby(None).with_column("share", share(col("v"))).take_all()
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_function_that_returns_other_than_a_value_per_row_is_named():
    @udf()
    def first(values):
        return values.slice(0, 1)

    with pytest.raises(
        aktis.exceptions.TaskError,
        match=r"first\(\) got a group of 10 rows and returned 1 values; return one for each row",
    ):
        numbers().groupby("k").with_column("first", first(col("v"))).take_all()


@pytest.mark.parametrize(
    ("name", "expr", "error", "words"),
    [
        ("", col("v"), ValueError, "the name of a column is text, not ''"),
        (3, col("v"), ValueError, "the name of a column is text, not 3"),
        ("x", 3, TypeError, "takes an expression"),
        ("x", col("w"), ValueError, "w"),
    ],
)
def test_mistakes_are_told_where_they_are_made(name, expr, error, words):
    with pytest.raises(error, match=words):
        numbers().groupby("k").with_column(name, expr)
