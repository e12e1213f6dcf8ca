"""Order, groups and unions, compared with pandas on random rows with nulls, NaN, texts, decimals and times."""

import datetime
import decimal
import math
import os
import pathlib
import signal

import aktis.data
import numpy
import pandas
import pyarrow
import pytest
from aktis.data import ActorPoolStrategy
from aktis.data.aggregate import (
    AbsMax,
    AsList,
    Count,
    CountDistinct,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Quantile,
    Std,
    Sum,
    Unique,
)

ROWS = 2000
PARTS = 7


def random_table(seed):
    chance = numpy.random.default_rng(seed)

    def some(values):
        values = list(values)
        return [None if chance.random() < 0.1 else value for value in values]

    start = datetime.datetime(2026, 1, 1)
    return pyarrow.table(
        {
            "id": pyarrow.array(range(ROWS), pyarrow.int64()),
            "key": pyarrow.array(some(f"k{n}" for n in chance.integers(0, 20, ROWS)), pyarrow.string()),
            "number": pyarrow.array(some(int(n) for n in chance.integers(-1000, 1000, ROWS)), pyarrow.int64()),
            "float": pyarrow.array(some(chance.normal(size=ROWS).tolist()), pyarrow.float64()),
            "money": pyarrow.array(
                some(decimal.Decimal(int(n)) / 100 for n in chance.integers(-9999, 9999, ROWS)),
                pyarrow.decimal128(9, 2),
            ),
            "at": pyarrow.array(
                some(start + datetime.timedelta(seconds=int(n)) for n in chance.integers(0, 10**7, ROWS)),
                pyarrow.timestamp("us"),
            ),
        }
    )


@pytest.fixture(scope="module")
def table():
    return random_table(14)


@pytest.fixture(params=["from memory", "behind a function"])
def ds(request, table):
    """The rows in several parts; behind a function nobody knows the columns before it has run."""
    size = -(-table.num_rows // PARTS)
    ds = aktis.data.from_arrow([table.slice(first, size) for first in range(0, table.num_rows, size)])
    if request.param == "from memory":
        return ds
    return ds.map_batches(lambda batch: batch, batch_format="pyarrow", batch_size=100)


def close(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return one == other


class TestSort:
    @pytest.mark.parametrize("key", ["key", "number", "float", "money", "at"])
    @pytest.mark.parametrize("descending", [False, True])
    def test_rows_come_in_order_with_nulls_last(self, ds, table, key, descending):
        order = "descending" if descending else "ascending"
        expected = table.sort_by([(key, order), ("id", "ascending")])
        found = ds.sort([key, "id"], descending=[descending, False]).to_arrow()
        assert found.column("id").to_pylist() == expected.column("id").to_pylist()
        assert found.column_names == table.column_names

    def test_not_a_number_is_greater_than_numbers_and_before_nulls(self):
        ds = aktis.data.from_arrow(pyarrow.table({"x": [math.nan, 1.0, None, -math.inf]}))
        values = [row["x"] for row in ds.sort("x").take_all()]
        assert values[:2] == [-math.inf, 1.0]
        assert math.isnan(values[2]) and values[3] is None

    def test_first_rows_of_sorted_ones(self, ds):
        assert [row["id"] for row in ds.sort("id", descending=True).limit(3).take_all()] == [1999, 1998, 1997]

    def test_order_stays_through_functions_and_filters(self, ds):
        even = ds.sort("id", descending=True).filter(expr="id % 2 = 0").map(lambda row: {"id": row["id"]})
        assert [row["id"] for row in even.take(3)] == [1998, 1996, 1994]

    def test_integers_of_one_part_and_floats_of_another(self):
        ds = aktis.data.range(4, override_num_blocks=2).map_batches(
            lambda batch: {"x": batch["id"] if batch["id"][0] < 2 else batch["id"] - 2.5}
        )
        assert [row["x"] for row in ds.sort("x").take_all()] == [-0.5, 0.0, 0.5, 1.0]

    def test_nothing_is_sorted_into_nothing(self, ds):
        assert ds.filter(expr="id < 0").sort("id").take_all() == []

    def test_mistakes_are_named(self, table):
        ds = aktis.data.from_arrow(table)
        with pytest.raises(ValueError, match=r"sort\(\): there is no column 'nmber'; the columns are 'id', 'key'"):
            ds.sort("nmber")
        with pytest.raises(ValueError, match="1 values of descending for 2 columns"):
            ds.sort(["key", "id"], descending=[True])
        with pytest.raises(NotImplementedError, match="boundaries"):
            ds.sort("id", boundaries=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def test_column_that_only_a_run_misses_is_named(self):
        ds = aktis.data.range(3).map_batches(lambda batch: {"y": batch["id"]})
        with pytest.raises(aktis.exceptions.AktisError, match="there is no column 'x'; the columns are 'y'"):
            ds.sort("x").take_all()


class TestGroups:
    def test_results_are_those_of_pandas(self, ds, table):
        aggregations = [
            Count(), Sum("number"), Min("at"), Max("money"), Mean("float"), Std("float"), AbsMax("number"),
            Quantile("number", q=0.25), CountDistinct("number"), Sum("money"), MissingValuePercentage("number"),
        ]  # fmt: skip
        found = {row["key"]: row for row in ds.groupby("key").aggregate(*aggregations).take_all()}
        frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
        groups = frame.groupby("key", dropna=False)
        assert len(found) == 21
        for key, group in groups:
            row = found[None if key is pandas.NA else key]
            numbers, floats = group["number"].dropna(), group["float"].dropna().astype(float)
            assert row["count()"] == len(group)
            assert row["sum(number)"] == numbers.sum()
            assert row["min(at)"] == group["at"].min()
            assert row["max(money)"] == group["money"].max()
            assert row["sum(money)"] == group["money"].dropna().sum()
            assert close(row["mean(float)"], float(floats.mean()))
            assert close(row["std(float)"], float(floats.std()))
            assert row["abs_max(number)"] == numbers.abs().max()
            assert close(row["quantile(number)"], float(numbers.astype(float).quantile(0.25)))
            assert row["count_distinct(number)"] == numbers.nunique()
            assert close(row["missing_pct(number)"], 100.0 * (len(group) - len(numbers)) / len(group))

    @pytest.mark.parametrize("name", ["sum", "min", "max", "mean", "std"])
    def test_shortcuts_tell_of_all_columns_or_of_some(self, name):
        ds = aktis.data.from_items([{"k": n % 3, "a": n, "b": n * n} for n in range(30)])
        grouped = getattr(ds.groupby("k"), name)
        all_columns = grouped().sort("k").take_all()
        assert list(all_columns[0]) == ["k", f"{name}(a)", f"{name}(b)"]
        expected = getattr(ds.to_pandas().groupby("k"), name)()
        for row in all_columns:
            assert close(float(row[f"{name}(a)"]), float(expected["a"][row["k"]]))
        assert list(grouped("b").take(1)[0]) == ["k", f"{name}(b)"]

    def test_several_keys(self, ds, table):
        halved = ds.add_column("parity", lambda df: df["id"] % 2)
        counts = halved.groupby(["key", "parity"]).count().take_all()
        assert sum(row["count()"] for row in counts) == ROWS
        assert len({(row["key"], row["parity"]) for row in counts}) == len(counts) == 42

    def test_nulls_that_are_not_ignored_make_results_null(self):
        ds = aktis.data.from_items([{"k": 1, "v": 2}, {"k": 1, "v": None}, {"k": 2, "v": 3}])
        rows = ds.groupby("k").aggregate(Sum("v", ignore_nulls=False), Count("v"), Count("v", True, "some")).sort("k")
        assert rows.take_all() == [
            {"k": 1, "sum(v)": None, "count(v)": 2, "some": 1},
            {"k": 2, "sum(v)": 3, "count(v)": 1, "some": 1},
        ]

    def test_lists_of_values(self):
        ds = aktis.data.from_items([{"v": value} for value in ["a", "b", "a", None]])
        found = ds.aggregate(
            Unique("v"), AsList("v"), Unique("v", ignore_nulls=True, alias_name="u"), AsList("v", "l", True)
        )
        assert set(found["unique(v)"]) == {"a", "b", None} and len(found["list(v)"]) == 4
        assert sorted(found["u"]) == ["a", "b"] and sorted(found["l"]) == ["a", "a", "b"]
        assert sorted(ds.unique("v", ignore_nulls=True)) == ["a", "b"] and None in ds.unique("v")

    def test_whole_groups_come_to_a_function(self, ds, table):
        def summed(group):
            return {"key": group["key"][:1], "rows": [len(group["id"])], "ids": [int(group["id"].sum())]}

        found = {row["key"]: row for row in ds.groupby("key").map_groups(summed).take_all()}
        frame = table.to_pandas()
        assert len(found) == 21
        for key, group in frame.groupby("key", dropna=False):
            row = found[key if isinstance(key, str) else None]
            assert (row["rows"], row["ids"]) == (len(group), group["id"].sum())

    def test_groups_of_classes_in_other_formats(self, ds):
        class Largest:
            def __init__(self, count):
                self.count = count

            def __call__(self, group):
                assert isinstance(group, pandas.DataFrame)
                yield group.nlargest(self.count, "id")

        found = ds.groupby("key").map_groups(Largest, batch_format="pandas", fn_constructor_args=(2,))
        assert found.count() == 42

    def test_everything_is_one_group_without_a_key(self, ds):
        assert ds.groupby(None).map_groups(lambda group: {"rows": [len(group["id"])]}).take_all() == [{"rows": ROWS}]

    def test_groups_are_selected_and_filtered_further(self, ds):
        large = ds.groupby("key").count().filter(expr='"count()" > 1').select_columns(["count()"])
        assert large.count() == 21

    def test_groups_are_data_frames_if_nobody_says_otherwise(self, ds):
        def kinds(group):
            return {"kind": [type(group).__name__]}

        few = ds.select_columns(["id"]).limit(2)
        assert {row["kind"] for row in few.groupby("id").map_groups(kinds).take_all()} == {"DataFrame"}
        arrays = few.groupby("id").map_groups(kinds, batch_format="numpy")
        assert {row["kind"] for row in arrays.take_all()} == {"dict"}
        first = few.groupby("id").map_groups(lambda frame: frame.assign(twice=frame["id"] * 2))
        assert first.sort("id").take_all() == [{"id": 0, "twice": 0}, {"id": 1, "twice": 2}]
        with pytest.raises(ValueError, match="groupby.. takes the name of a column, or a list of names, not <function"):
            few.groupby(lambda row: row["id"] % 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def test_results_of_one_name_are_numbered(self, ds):
        told = ds.filter(expr="id < 4").aggregate(Sum("id"), Count("id"), Sum("id"), Sum("id"))
        assert told == {"sum(id)": 6, "count(id)": 4, "sum(id)_2": 6, "sum(id)_3": 6}

    @pytest.mark.parametrize("known", [True, False])
    def test_nan_is_missing_where_missing_values_are_counted(self, known):
        columns = {"f": [1.0, float("nan"), None, 4.0], "s": ["nan", None, "b", "c"]}
        ds = aktis.data.from_arrow(pyarrow.table(columns))
        ds = ds if known else ds.map_batches(lambda table: table, batch_format="pyarrow")
        told = ds.aggregate(MissingValuePercentage("f"), MissingValuePercentage("s"))
        assert told == {"missing_pct(f)": 50.0, "missing_pct(s)": 25.0}

    def test_nothing_has_no_groups(self, ds):
        assert ds.filter(expr="id < 0").groupby("key").count().take_all() == []

    def test_mistakes_are_named(self, table):
        ds = aktis.data.from_arrow(table)
        with pytest.raises(ValueError, match=r"groupby\(\): there is no column 'kee'"):
            ds.groupby("kee").count()
        with pytest.raises(ValueError, match=r"aggregate\(\): there is no column 'nmber'"):
            ds.groupby("key").sum("nmber")
        with pytest.raises(ValueError, match="the sum of 'key': its values are of type Utf8, which is no number"):
            ds.groupby("id").sum("key")
        with pytest.raises(ValueError, match=r"two columns named 'key': .* alias_name"):
            ds.groupby("key").aggregate(Sum("id", alias_name="key"))
        for call in (ds.union, ds.mix, ds.zip):
            with pytest.raises(TypeError, match=r"takes datasets, not list: write (union|mix|zip)\(\*datasets\)"):
                call([ds])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="takes aggregations"):
            ds.aggregate("sum")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="needs the name of a column"):
            Sum(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class TestTotals:
    def test_totals_are_those_of_pandas(self, ds, table):
        frame = table.to_pandas()
        assert ds.sum("number") == frame["number"].sum()
        assert (ds.min("id"), ds.max("id")) == (0, ROWS - 1)
        assert close(ds.mean("float"), frame["float"].mean())
        assert close(ds.std("float"), frame["float"].std())
        assert ds.sum(["id", "number"]) == {"sum(id)": frame["id"].sum(), "sum(number)": frame["number"].sum()}

    def test_totals_of_nothing(self, ds):
        nothing = ds.filter(expr="id < 0")
        assert nothing.sum("number") is None
        assert nothing.aggregate(Count(), Mean("float")) == {"count()": 0, "mean(float)": None}

    def test_function_that_returns_nothing_has_a_count(self):
        ds = aktis.data.range(10).flat_map(lambda row: [])
        assert ds.aggregate(Count(), Sum("x")) == {"count()": 0, "sum(x)": None}

    def test_different_values(self, ds, table):
        found = ds.unique("key")
        assert len(found) == 21 and set(found) == set(table.column("key").to_pylist())


class TestShuffle:
    def test_every_row_comes_once_in_an_order_that_the_seed_tells(self, ds):
        one = [row["id"] for row in ds.random_shuffle(seed=3).take_all()]
        assert sorted(one) == list(range(ROWS)) and one != sorted(one)
        assert one == [row["id"] for row in ds.random_shuffle(seed=3).take_all()]
        assert one != [row["id"] for row in ds.random_shuffle(seed=4).take_all()]

    def test_without_a_seed_every_run_is_another(self, ds):
        shuffled = ds.random_shuffle()
        first, second = ([row["id"] for row in shuffled.take_all()] for _ in range(2))
        assert sorted(first) == sorted(second) and first != second


class TestParts:
    def test_rows_are_spread_over_as_many_blocks_as_asked_for(self, ds):
        for shuffle in (False, True):
            parts = ds.repartition(5, shuffle=shuffle).materialize()
            assert parts.num_blocks() == 5
            assert sorted(row["id"] for row in parts.take_all()) == list(range(ROWS))

    @pytest.mark.parametrize("sort", [False, True])
    def test_rows_with_equal_keys_are_in_one_block(self, ds, sort):
        made = ds.map_batches(lambda batch: {"key": batch["id"] * 7919 % 23, "id": batch["id"]})
        parts = made.repartition(4, keys=["key"], sort=sort).materialize()
        assert parts.num_blocks() == 4
        tables = aktis.get(parts.to_arrow_refs())
        keys = [table["key"].to_pylist() if table.num_rows else [] for table in tables]
        assert sorted(key for block in keys for key in set(block)) == list(range(23))
        assert sum(map(len, keys)) == ROWS
        if sort:
            assert keys == [sorted(block) for block in keys]

    @pytest.mark.parametrize("strict", [False, True])
    def test_blocks_have_so_many_rows_in_their_order(self, ds, strict):
        # Inputs of three sizes, none of which is a multiple.
        parts = [aktis.data.range(ROWS, override_num_blocks=number) for number in (1, 3, 7)]
        whole = parts[0].union(*parts[1:])
        blocks = aktis.get(whole.repartition(target_num_rows_per_block=32, strict=strict).materialize().to_arrow_refs())
        sizes = [block.num_rows for block in blocks]
        assert [value for block in blocks for value in block["id"].to_pylist()] == list(range(ROWS)) * 3
        if strict:
            assert sizes == [32] * (3 * ROWS // 32) + [3 * ROWS % 32]
        else:
            assert max(sizes) == 32 and sum(size < 32 for size in sizes) <= 11

    @pytest.mark.parametrize("is_class", [False, True])
    def test_function_without_a_size_of_batches_gets_blocks_of_so_many_rows(self, ds, is_class):
        class Count:
            def __call__(self, batch):
                return {"rows": [len(batch["id"])] * len(batch["id"])}

        blocks = aktis.data.range(ROWS, override_num_blocks=1).repartition(target_num_rows_per_block=32, strict=True)
        function, concurrency = (Count, 1) if is_class else (Count(), None)
        got = [row["rows"] for row in blocks.map_batches(function, batch_size=None, concurrency=concurrency).take_all()]
        assert got == [32] * (ROWS // 32 * 32) + [ROWS % 32] * (ROWS % 32)

    def test_workers_of_all_kinds_get_blocks_of_so_many_rows(self):
        class Count:
            def __call__(self, batch):
                return {"rows": [len(batch["id"])] * len(batch["id"])}

        blocks = aktis.data.range(20_000, override_num_blocks=20).repartition(target_num_rows_per_block=50)
        kinds = [ActorPoolStrategy(size=1, num_cpus=1), ActorPoolStrategy(size=1, num_cpus=0.5)]
        counted = blocks.map_batches(Count, batch_size=None, compute=kinds)
        assert {row["rows"] for row in counted.take_all()} == {50}
        sizes = [kind["batch_size"] for stage in counted.get_stats_summary()["stages"] for kind in stage["kinds"]]
        assert sizes == [50, 50]

    def test_sample_is_a_part_of_the_rows_in_their_order(self, ds):
        drawn = [row["id"] for row in ds.random_sample(0.3, seed=5).take_all()]
        assert drawn == sorted(set(drawn)) and ROWS * 0.2 < len(drawn) < ROWS * 0.4
        assert ds.random_sample(0).count() == 0 and ds.random_sample(1).count() == ROWS

    def test_mistakes_are_named(self):
        ds = aktis.data.range(3)
        with pytest.raises(ValueError, match="Either `num_blocks` or `target_num_rows_per_block` must be set"):
            ds.repartition()
        with pytest.raises(ValueError, match="target_num_rows_per_block must be a whole number of at least 1, not 0"):
            ds.repartition(target_num_rows_per_block=0)
        with pytest.raises(ValueError, match="Only one of `num_blocks` or `target_num_rows_per_block` must be set"):
            ds.repartition(2, 2, shuffle=True)
        with pytest.raises(ValueError, match="`shuffle` must be False when `target_num_rows_per_block` is set"):
            ds.repartition(target_num_rows_per_block=2, shuffle=True)
        with pytest.raises(ValueError, match="does not go with keys=; leave one out"):
            ds.repartition(target_num_rows_per_block=2, keys="id")
        with pytest.raises(ValueError, match="target_num_rows_per_block= rows, which is missing"):
            ds.repartition(2, strict=True)
        with pytest.raises(ValueError, match="keys=, which is missing"):
            ds.repartition(2, sort=True)
        with pytest.raises(ValueError, match="leave one out"):
            ds.repartition(2, keys=["id"], shuffle=True)
        with pytest.raises(ValueError, match="no column 'di'"):
            ds.repartition(2, keys="di")
        with pytest.raises(ValueError, match="a fraction from 0 to 1, not 1.5"):
            ds.random_sample(1.5)


class TestUnion:
    def test_rows_come_one_dataset_after_the_other(self, ds):
        ids = [row["id"] for row in ds.union(aktis.data.range(3), aktis.data.range(2)).take_all()]
        assert ids == [*range(ROWS), 0, 1, 2, 0, 1]

    def test_columns_go_together_by_name(self):
        one = aktis.data.from_arrow(pyarrow.table({"a": [1], "b": ["x"]}))
        other = aktis.data.from_arrow(pyarrow.table({"b": ["y"], "a": [2.5]}))
        third = aktis.data.from_arrow(pyarrow.table({"a": [3], "c": [True]}))
        all_rows = one.union(other, third)
        assert all_rows.schema().names == ["a", "b", "c"]
        assert all_rows.take_all() == [
            {"a": 1.0, "b": "x", "c": None},
            {"a": 2.5, "b": "y", "c": None},
            {"a": 3.0, "b": None, "c": True},
        ]

    def test_types_that_do_not_fit_are_named(self):
        one = aktis.data.from_arrow(pyarrow.table({"a": [1]}))
        with pytest.raises(ValueError, match="'a'"):
            one.union(aktis.data.from_arrow(pyarrow.table({"a": [[1]]})))

    def test_dataset_beside_itself_and_after_groups(self):
        ds = aktis.data.range(5)
        assert ds.union(ds).sum("id") == 20
        counts = ds.groupby("id").count()
        assert counts.union(counts).count() == 10

    def test_materialised_datasets_and_pickled_plans(self):
        import pickle

        ds = aktis.data.range(2)
        assert ds.materialize().union(ds).count() == 4
        assert pickle.loads(pickle.dumps(ds.union(ds).sort("id"))).take_all() == [{"id": n} for n in [0, 0, 1, 1]]


class TestLosses:
    @pytest.mark.parametrize("where", ["before the exchange", "behind the exchange"])
    def test_worker_that_dies_once_is_replaced_and_groups_are_whole(self, where, tmp_path):
        marker = tmp_path / "died"

        def die_once(batch):
            if 50 in batch["id"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

        ds = aktis.data.range(1000).add_column("k", lambda df: df["id"] % 7)
        if where == "before the exchange":
            ds = ds.map_batches(die_once, batch_size=100)
        ds = ds.groupby("k").map_groups(lambda group: group if where == "before the exchange" else die_once(group))
        rows = ds.groupby("k").aggregate(Count(), Sum("id")).sort("k").take_all()
        expected = [range(k, 1000, 7) for k in range(7)]
        assert rows == [{"k": k, "count()": len(ids), "sum(id)": sum(ids)} for k, ids in enumerate(expected)]
        assert marker.exists()


def test_more_rows_than_the_budget_are_sorted_grouped_and_shuffled(monkeypatch):
    limits = aktis.data.DataContext.get_current().execution_options.resource_limits
    monkeypatch.setattr(limits, "object_store_memory", 24 << 20)
    rows = 400_000
    ds = aktis.data.range(rows).map_batches(
        lambda batch: {"id": batch["id"], "key": batch["id"] * 7919 % rows, "text": ["x" * 100] * len(batch["id"])}
    )
    keys = [batch["key"] for batch in ds.sort("key").iter_batches(batch_size=None)]
    assert numpy.array_equal(numpy.concatenate(keys), numpy.arange(rows))
    assert ds.groupby("key").count().count() == rows
    assert ds.random_shuffle().sum("id") == rows * (rows - 1) // 2


def test_sorted_rows_are_written_and_counted(tmp_path: pathlib.Path):
    aktis.data.range(100).sort("id", descending=True).write_parquet(tmp_path / "out")
    assert aktis.data.read_parquet(str(tmp_path / "out")).sum("id") == 4950
    assert aktis.data.range(100).sort("id").count() == 100


def test_blocks_have_the_texts_of_their_rows_alone():
    # Each view holds on to all texts of the batch that it was picked from.
    texts = [f"{n:0100}" for n in range(20_000)]
    rows = pyarrow.table({"id": range(20_000), "text": pyarrow.array(texts, pyarrow.string_view())})
    few = aktis.data.from_arrow(rows).filter(expr="id % 100 == 0").materialize()
    assert few.size_bytes() < rows.nbytes / 20
    assert [row["text"] for row in few.take_all()] == texts[::100]
