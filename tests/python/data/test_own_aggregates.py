"""Aggregations of the user's own, alone and beside those of the engine."""

import collections

import aktis.data
import aktis.data.aggregate
import pyarrow.compute
import pytest
from aktis.data.aggregate import (
    AggregateFn,
    AggregateFnV2,
    ApproximateQuantile,
    ApproximateTopK,
    Count,
    Mean,
    Sum,
    ValueCounter,
    ZeroPercentage,
)

ROWS = [{"k": i % 3, "g": "ab"[i % 2], "v": i if i % 7 else None} for i in range(200)]


def rows(parts=9):
    return aktis.data.from_items(ROWS, override_num_blocks=parts)


def product(name="product", finalize=None):
    def step(accumulator, row):
        return accumulator if row["v"] is None else accumulator * (row["v"] % 5 + 1) % 1009

    return AggregateFn(
        init=lambda key: 1, accumulate_row=step, merge=lambda a, b: a * b % 1009, name=name, finalize=finalize
    )


def product_of(values):
    result = 1
    for value in values:
        result = result * (value % 5 + 1) % 1009
    return result


class Span(AggregateFnV2):
    """Greatest less least value."""

    def __init__(self, on, ignore_nulls=True):
        super().__init__(f"span({on})", lambda: [0, 0], on=on, ignore_nulls=ignore_nulls)

    def aggregate_block(self, block):
        column = block[self.get_target_column()]
        if column.null_count == len(column) or (column.null_count and not self._ignore_nulls):
            return None
        ends = pyarrow.compute.min_max(column).as_py()  # pyright: ignore[reportAttributeAccessIssue]
        return [ends["min"], ends["max"]]

    def combine(self, current_accumulator, new):
        return [min(current_accumulator[0], new[0]), max(current_accumulator[1], new[1])]

    def finalize(self, accumulator):
        return accumulator[1] - accumulator[0]


@pytest.mark.parametrize("parts", [1, 9])
@pytest.mark.parametrize("keys", [["k"], ["k", "g"]])
def test_groups_are_told_by_functions_and_by_the_engine_in_one_run(parts, keys):
    groups = collections.defaultdict(list)
    for row in ROWS:
        groups[tuple(row[key] for key in keys)].append(row["v"])
    found = rows(parts).groupby(keys).aggregate(product(), Sum("v"), Span("v"), Count(), Mean("v")).take_all()
    assert len(found) == len(groups)
    for row in found:
        values = groups[tuple(row[key] for key in keys)]
        there = [value for value in values if value is not None]
        assert list(row) == [*keys, "product", "sum(v)", "span(v)", "count()", "mean(v)"]
        assert row["product"] == product_of(there)
        assert row["span(v)"] == max(there) - min(there)
        assert (row["sum(v)"], row["count()"]) == (sum(there), len(values))


def test_all_rows_are_one_group_also_if_there_are_none():
    there = [row["v"] for row in ROWS if row["v"] is not None]
    assert rows().aggregate(product(finalize=str), Count()) == {"product": str(product_of(there)), "count()": 200}
    none = rows().filter(expr="v < 0")
    assert none.aggregate(product(), Count(), Span("v")) == {"product": 1, "count()": 0, "span(v)": None}
    assert none.groupby("k").aggregate(product()).take_all() == []


def test_a_function_gets_the_key_of_its_group_as_ray_gives_it():
    def keys_of(by):
        told = AggregateFn(
            init=repr, accumulate_block=lambda told, block: told, merge=lambda one, other: one, name="told"
        )
        return {row["told"] for row in rows(2).groupby(by).aggregate(told).take_all()}

    assert keys_of("k") == {"0", "1", "2"}
    assert keys_of(["k", "g"]) == {repr((k, g)) for k in range(3) for g in "ab"}
    assert keys_of(None) == {"()"}


def test_nulls_are_a_group_and_null_accumulators_are_what_the_class_says():
    ds = aktis.data.from_items([{"k": None, "v": 1}, {"k": "a", "v": None}, {"k": None, "v": 4}], override_num_blocks=3)
    found = {row["k"]: row["span(v)"] for row in ds.groupby("k").aggregate(Span("v")).take_all()}
    assert found == {None: 3, "a": None}
    assert rows().aggregate(Span("v")) == {"span(v)": 198}
    assert rows().aggregate(Span("v", ignore_nulls=False)) == {"span(v)": None}


def test_results_may_be_of_any_type_and_be_used_by_what_follows():
    lists = AggregateFn(
        init=lambda key: [],
        accumulate_block=lambda found, block: found + block["v"].drop_null().to_pylist(),
        merge=lambda one, other: one + other,
        name="lists",
        finalize=lambda found: {"most": max(found), "first": sorted(found)[:2]},
    )
    ds = rows().groupby("k").aggregate(lists).sort("k")
    assert ds.take(1) == [{"k": 0, "lists": {"most": 198, "first": [3, 6]}}]
    assert ds.map(lambda row: {"m": row["lists"]["most"]}).take_all() == [{"m": 198}, {"m": 199}, {"m": 197}]


def test_only_columns_that_are_looked_at_are_read(tmp_path):
    rows().write_parquet(tmp_path)
    ds = aktis.data.read_parquet(tmp_path)

    class Names(AggregateFnV2):
        def __init__(self):
            super().__init__("names", list, on="v", ignore_nulls=True)

        def aggregate_block(self, block):
            return block.column_names

        def combine(self, current_accumulator, new):
            return current_accumulator

    found = ds.aggregate(Names(), Count("g", ignore_nulls=True))
    assert (sorted(found["names"]), found["count(g)"]) == (["g", "v"], 200)


@pytest.mark.parametrize("parts", [1, 7])
def test_values_are_counted(parts):
    expected = collections.Counter(row["v"] for row in ROWS)
    counted = rows(parts).aggregate(ValueCounter("v"))["value_counter(v)"]
    assert dict(zip(counted["values"], counted["counts"], strict=True)) == expected
    by_letter = rows(parts).groupby("k").aggregate(ValueCounter("g", alias_name="n")).take_all()
    for row in by_letter:
        found = dict(zip(row["n"]["values"], row["n"]["counts"], strict=True))
        assert found == collections.Counter(each["g"] for each in ROWS if each["k"] == row["k"])


def test_most_frequent_values_are_exact_while_they_are_kept():
    words = [{"w": word, "tags": [word, "all"]} for word in "aaaabbbccd"] + [{"w": None, "tags": None}] * 20
    ds = aktis.data.from_items(words, override_num_blocks=4)
    assert ds.aggregate(ApproximateTopK("w", k=2)) == {
        "approx_topk(w)": [{"w": "a", "count": 4}, {"w": "b", "count": 3}]
    }
    tags = ds.aggregate(ApproximateTopK("tags", k=2, encode_lists=True, alias_name="t"))["t"]
    assert tags == [{"tags": "all", "count": 10}, {"tags": "a", "count": 4}]
    lists = ds.aggregate(ApproximateTopK("tags", k=1))["approx_topk(tags)"]
    assert lists == [{"tags": ["a", "all"], "count": 4}]


def test_most_frequent_values_of_many_are_found_with_a_bounded_error():
    frequent = [{"w": i % 3} for i in range(3000)]
    rare = [{"w": 10 + i} for i in range(3000)]
    both = [row for pair in zip(frequent, rare, strict=True) for row in pair]
    (found,) = (
        aktis.data.from_items(both, override_num_blocks=5).aggregate(ApproximateTopK("w", 3, log_capacity=6)).values()
    )
    assert {item["w"] for item in found} == {0, 1, 2}
    for item in found:
        assert 1000 - 6000 / 64 <= item["count"] <= 1000


def test_zeros_and_quantiles_are_told_by_the_engine():
    ds = aktis.data.from_items([{"v": v} for v in (0, 0.0, 3, None)])
    assert ds.aggregate(ZeroPercentage("v"), ZeroPercentage("v", ignore_nulls=False, alias_name="of all")) == {
        "zero_pct(v)": pytest.approx(200 / 3),
        "of all": 50.0,
    }
    assert ds.filter(expr="v > 9").aggregate(ZeroPercentage("v"), ApproximateQuantile("v", [0.5])) == {
        "zero_pct(v)": None,
        "approx_quantile(v)": None,
    }
    assert aktis.data.range(11).aggregate(ApproximateQuantile("id", [0.9, 0.1, 0.5])) == {
        "approx_quantile(id)": [9.0, 1.0, 5.0]
    }


def test_results_of_one_name_are_numbered():
    told = rows().aggregate(product(), product(finalize=lambda value: -value), product())
    assert told["product_2"] == -told["product"] and told["product_3"] == told["product"]


def test_wrong_aggregations_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="either accumulate_row or accumulate_block"):
        AggregateFn(init=lambda key: 0, merge=max, name="x")
    with pytest.raises(ValueError, match="there is no column 'w'; there are 'k', 'g', 'v'"):
        rows().aggregate(Span("w"))
    with pytest.raises(ValueError, match="two results have the name 'g': give one of them an alias_name"):
        rows().groupby("g").aggregate(product("g"))
    with pytest.raises(TypeError, match="takes aggregations such as"):
        rows().aggregate(max)  # pyright: ignore[reportArgumentType]
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match=r"ApproximateTopK\(k="):
            ApproximateTopK("v", wrong)  # pyright: ignore[reportArgumentType]
    for wrong in ([], [2], [-0.1]):
        with pytest.raises(ValueError, match="quantiles="):
            ApproximateQuantile("v", wrong)
    with pytest.raises(AttributeError, match="derive from AggregateFnV2"):
        aktis.data.aggregate.VectorizedAggregateFnV2  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue]


def test_failure_of_a_function_is_raised():
    def fail(accumulator, row):
        raise LookupError("no such word")

    broken = AggregateFn(init=lambda key: 0, accumulate_row=fail, merge=max, name="broken")
    with pytest.raises(LookupError, match="no such word"):
        rows().groupby("k").aggregate(broken).take_all()
