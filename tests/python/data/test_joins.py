"""Rows of several datasets side by side, compared with pandas on random rows with nulls."""

import os
import pickle
import signal

import aktis.data
import numpy
import pandas
import pyarrow
import pytest
from aktis.data.aggregate import Count, Sum

KINDS = ["inner", "left_outer", "right_outer", "full_outer", "left_semi", "right_semi", "left_anti", "right_anti"]
HOW = {"inner": "inner", "left_outer": "left", "right_outer": "right", "full_outer": "outer"}


def random_side(seed, name, rows, keys=30):
    chance = numpy.random.default_rng(seed)

    def some(values):
        return [None if chance.random() < 0.1 else int(value) for value in values]

    return pyarrow.table(
        {
            "key": pyarrow.array(some(chance.integers(0, keys, rows)), pyarrow.int64()),
            "part": pyarrow.array([f"p{n}" for n in chance.integers(0, 3, rows)]),
            name: pyarrow.array(range(rows), pyarrow.int64()),
        }
    )


LEFT, RIGHT = random_side(1, "l", 400), random_side(2, "r", 90)


def dataset(table, where):
    """The rows in several parts; behind a function nobody knows their columns and number before it has run."""
    size = -(-table.num_rows // 5)
    ds = aktis.data.from_arrow([table.slice(first, size) for first in range(0, table.num_rows, size)])
    if where == "from memory":
        return ds
    return ds.map_batches(lambda batch: batch, batch_format="pyarrow", batch_size=50)


@pytest.fixture(params=["from memory", "behind a function"])
def sides(request):
    return dataset(LEFT, request.param), dataset(RIGHT, request.param)


def meant(kind, on):
    """What pandas makes of it. To pandas a null is equal to a null: it gets another one on each side."""
    left, right = (table.to_pandas(types_mapper=pandas.ArrowDtype) for table in (LEFT, RIGHT))
    for frame, other in ((left, -1), (right, -2)):
        frame["no key"] = frame["key"].isna() * other
    names = [*on, "no key"]
    if kind in HOW:
        joined = left.merge(right, on=names, how=HOW[kind], suffixes=("", "_r"))
    else:
        one, other = (left, right) if kind.startswith("left") else (right, left)
        found = one.merge(other[names].drop_duplicates(), on=names, how="left", indicator=True)["_merge"] == "both"
        joined = one[(found if kind.endswith("semi") else ~found).to_numpy()]
    return as_rows(joined.drop(columns="no key").to_dict("records"))


def as_rows(rows):
    clean = [
        tuple(sorted((name, None if pandas.isna(value) else value) for name, value in row.items())) for row in rows
    ]
    return sorted(clean, key=repr)


class TestJoin:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("on", [("key",), ("key", "part")])
    def test_rows_are_those_of_pandas(self, sides, kind, on):
        left, right = sides
        joined = left.join(right, kind, 7, on=on, right_suffix="_r")
        assert as_rows(joined.take_all()) == meant(kind, on)

    def test_keys_with_other_names_come_out_once(self):
        one = aktis.data.from_items([{"a": 1, "x": 10}, {"a": 2, "x": 20}])
        other = aktis.data.from_items([{"b": 2, "y": 200}, {"b": 3, "y": 300}])

        def names(kind):
            return one.join(other, kind, 2, on=("a",), right_on=("b",)).schema().names

        assert names("inner") == names("left_outer") == names("full_outer") == ["a", "x", "y"]
        assert names("right_outer") == ["x", "b", "y"]
        full = one.join(other, "full_outer", 2, on=("a",), right_on=("b",)).sort("a").take_all()
        assert full == [{"a": 1, "x": 10, "y": None}, {"a": 2, "x": 20, "y": 200}, {"a": 3, "x": None, "y": 300}]

    def test_dataset_beside_itself(self):
        for ds in (aktis.data.range(50), aktis.data.range(50).map(lambda row: row)):
            doubled = ds.with_column("n", aktis.data.expressions.col("id") * 2)
            joined = doubled.join(doubled, "inner", 4, left_suffix="_l", right_suffix="_r")
            rows = joined.sort("id").take_all()
            assert rows == [{"id": n, "n_l": n * 2, "n_r": n * 2} for n in range(50)]

    def test_lists_and_other_columns_pass_that_cannot_be_keys(self):
        one = aktis.data.from_items([{"id": n, "list": [n, n + 1]} for n in range(4)])
        other = aktis.data.from_items([{"id": n, "other": {"n": n}} for n in range(2, 6)])
        rows = one.join(other, "left_outer", 3).sort("id").take_all()
        assert rows[1] == {"id": 1, "list": [1, 2], "other": None}
        assert rows[3] == {"id": 3, "list": [3, 4], "other": {"n": 3}}

    def test_small_side_and_hint_give_the_same_rows(self):
        left, right = dataset(LEFT, "behind a function"), dataset(RIGHT, "behind a function")
        hinted = left.join(right, "inner", 7, on=("key",), right_suffix="_r", hint="broadcast")
        small = left.join(dataset(RIGHT, "from memory"), "inner", 7, on=("key",), right_suffix="_r")
        assert as_rows(hinted.take_all()) == as_rows(small.take_all()) == meant("inner", ("key",))

    def test_joined_rows_go_on(self):
        ds = aktis.data.range(100)
        squares = ds.map(lambda row: {"id": row["id"], "square": row["id"] ** 2})
        joined = ds.join(squares, "inner", 4).filter(expr="square > 100").map(lambda row: {"half": row["square"] / 2})
        assert joined.sum("half") == sum(n * n / 2 for n in range(11, 100))
        assert pickle.loads(pickle.dumps(ds.join(squares, "inner", 4))).count() == 100
        three = ds.join(squares, "inner", 4).join(ds.limit(7), "left_semi", 4)
        assert sorted(row["square"] for row in three.take_all()) == [n * n for n in range(7)]

    def test_only_wanted_columns_are_read(self, words):
        read = aktis.data.read_parquet(words)
        joined = read.join(read.select_columns(["id"]), "inner", 4).select_columns(["word"])
        assert joined.count() == read.count()
        assert "data" not in joined.explain().partition("Optimised plan:")[2].replace("Optimised plan", "")

    def test_side_that_gives_nothing(self):
        ds = aktis.data.range(10)
        nothing = ds.flat_map(lambda row: [])
        assert ds.join(nothing, "inner", 3).take_all() == []
        assert ds.join(nothing, "left_anti", 3).count() == 10
        assert ds.join(ds.filter(expr="id < 0"), "left_outer", 3).count() == 10

    def test_mistakes_are_named_when_they_are_made(self):
        one, other = aktis.data.from_arrow(LEFT), aktis.data.from_arrow(RIGHT)
        with pytest.raises(
            ValueError, match=r"join\(\): there is no column 'id' on the left; its columns are 'key', 'part', 'l'"
        ):
            one.join(other, "inner", 3)
        with pytest.raises(
            ValueError, match="'key' of the left is Int64 and the key 'part' of the right is Utf8: .*cast"
        ):
            one.join(other, "inner", 3, on=("key",), right_on=("part",))
        with pytest.raises(ValueError, match="both sides have columns 'part': give left_suffix or right_suffix"):
            one.join(other, "inner", 3, on=("key",))
        with pytest.raises(ValueError, match="join_type must be one of inner, left_outer, .*, not .outer"):
            one.join(other, "outer", 3, on=("key",))
        with pytest.raises(ValueError, match=r"Expected tuple or list as `on` \(got str\)"):
            one.join(other, "inner", 3, on="key")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="as many keys"):
            one.join(other, "inner", 3, on=("key",), right_on=("key", "part"))
        with pytest.raises(ValueError, match="num_partitions must be a whole number of at least 1, not 0"):
            one.join(other, "inner", 0, on=("key",))
        with pytest.raises(ValueError, match="hint='broadcast' gives every part of the left"):
            one.join(other, "full_outer", 3, on=("key", "part"), hint="broadcast")
        with pytest.raises(TypeError, match=r"join\(\) takes a dataset, not list"):
            one.join([], "inner", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="did you mean 'hint'"):
            one.join(other, "inner", 3, on=("key",), hnt="broadcast")

    def test_mistakes_that_only_a_run_shows_are_named_by_it(self):
        one, other = dataset(LEFT, "behind a function"), dataset(RIGHT, "behind a function")
        with pytest.raises(
            aktis.exceptions.AktisError, match="there is no column 'id'; the columns are 'key', 'part', 'l'"
        ):
            one.join(other, "inner", 3, on=("id",), right_on=("key",)).take_all()
        with pytest.raises(aktis.exceptions.AktisError, match="both sides have columns 'part'"):
            one.join(other, "inner", 3, on=("key",)).take_all()
        with pytest.raises(ValueError, match="no column 'id' on the left"):
            one.join(other, "inner", 3, validate_schemas=True)

    def test_more_rows_than_the_budget_are_joined(self, monkeypatch):
        limits = aktis.data.DataContext.get_current().execution_options.resource_limits
        monkeypatch.setattr(limits, "object_store_memory", 24 << 20)
        rows = 200_000

        def side(factor):
            return aktis.data.range(rows).map_batches(
                lambda batch: {"id": batch["id"] * factor % rows, "text": ["x" * 100] * len(batch["id"])}
            )

        joined = side(7919).join(side(1), "inner", 2, right_suffix="_r")
        assert joined.aggregate(Count(), Sum("id")) == {"count()": rows, "sum(id)": rows * (rows - 1) // 2}

    @pytest.mark.parametrize("where", ["before the exchange", "behind the join"])
    def test_worker_that_dies_once_is_replaced_and_no_row_is_lost(self, where, tmp_path):
        marker = tmp_path / "died"

        def die_once(batch):
            if 50 in batch["id"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

        ds = aktis.data.range(1000)
        left = ds.map_batches(die_once if where == "before the exchange" else lambda batch: batch, batch_size=100)
        right = ds.map_batches(lambda batch: {"id": batch["id"] * 2, "twice": batch["id"]}, batch_size=100)
        joined = left.join(right, "full_outer", 5)
        if where == "behind the join":
            joined = joined.map_batches(die_once, batch_size=100)
        rows = {row["id"]: row["twice"] for row in joined.take_all()}
        assert len(rows) == 1500
        assert rows == {**dict.fromkeys(range(1000)), **{n * 2: n for n in range(1000)}}
        assert marker.exists()


class TestZip:
    @pytest.mark.parametrize("parts", [(1, 4), (4, 1), (3, 5)])
    def test_rows_go_together_by_their_place(self, parts):
        one = aktis.data.range(40, override_num_blocks=parts[0])
        other = aktis.data.range(40, override_num_blocks=parts[1]).map(lambda row: {"n": row["id"] * 3})
        assert one.zip(other).take_all() == [{"id": n, "n": n * 3} for n in range(40)]

    def test_names_that_are_taken_get_numbers(self):
        ds = aktis.data.range(3)
        assert ds.zip(ds, ds).schema().names == ["id", "id_1", "id_2"]
        assert ds.zip(ds).zip(ds).take(1) == [{"id": 0, "id_1": 0, "id_2": 0}]
        assert ds.zip(ds).count() == 3 and ds.zip(ds).select_columns(["id_1"]).sum("id_1") == 3

    def test_sorted_rows_are_zipped_in_their_order(self):
        ds = aktis.data.range(100)
        ranked = ds.sort("id", descending=True).zip(ds.random_shuffle(seed=1).sort("id"))
        assert ranked.take_all() == [{"id": 99 - n, "id_1": n} for n in range(100)]

    def test_slow_parts_do_not_change_the_order(self, tmp_path):
        """The first part waits until others have been done."""

        def wait(batch):
            (tmp_path / str(batch["id"][0])).touch()
            while batch["id"][0] == 0 and len(os.listdir(tmp_path)) < 3:
                pass
            return batch

        slow = aktis.data.range(10, override_num_blocks=10).map_batches(wait, batch_size=1)
        assert slow.zip(aktis.data.range(10)).take_all() == [{"id": n, "id_1": n} for n in range(10)]

    def test_different_numbers_of_rows_are_an_error(self):
        ds = aktis.data.range(5)
        with pytest.raises(ValueError, match="the datasets have 5 and 4 rows"):
            ds.zip(aktis.data.range(4)).take_all()
        with pytest.raises(aktis.exceptions.AktisError, match="the datasets have 5 and 4 rows"):
            ds.zip(ds.filter(expr="id > 0")).take_all()
        with pytest.raises(TypeError, match=r"zip\(\) takes datasets, not list"):
            ds.zip([])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class TestFirstRows:
    @pytest.mark.parametrize("descending", [False, True])
    def test_first_of_sorted_rows_are_found_by_every_worker(self, descending):
        ds = aktis.data.range(5000, override_num_blocks=6).add_column("k", lambda df: df["id"] * 7919 % 5000)
        first = ds.sort("k", descending=descending).limit(20)
        expected = sorted(range(5000), reverse=descending)[:20]
        assert [row["k"] for row in first.take_all()] == expected
        assert "TopK(partial)" in first.explain() and "TopK" in first.limit(3).explain()
        assert first.limit(3).count() == 3

    def test_columns_that_change_are_no_obstacle(self):
        ds = aktis.data.range(40, override_num_blocks=2).map_batches(
            lambda batch: {"x": batch["id"] if batch["id"][0] % 2 else batch["id"] + 0.5}, batch_size=5
        )
        assert [row["x"] for row in ds.sort("x").limit(3).take_all()] == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("kind", ["inner", "full_outer"])
def test_vectors_and_views_of_texts_come_with_their_rows(kind):
    def row(side, key):
        vector = None if key % 7 == 0 else [float(key), None if key % 5 == 0 else 1.0, 2.0]
        return {f"{side}_vector": vector, f"{side}_text": f"the text of row {key} of the {side} side"}

    def table(side, keys):
        rows = [row(side, key) for key in keys]
        types = {f"{side}_vector": pyarrow.list_(pyarrow.float32(), 3), f"{side}_text": pyarrow.string_view()}
        columns = {name: pyarrow.array([row[name] for row in rows], kind) for name, kind in types.items()}
        return pyarrow.table({"key": pyarrow.array(keys), **columns})

    def nothing(side):
        return dict.fromkeys([f"{side}_vector", f"{side}_text"])

    left, right = (
        dataset(table(side, keys), "from memory") for side, keys in (("left", range(200)), ("right", range(100, 300)))
    )
    joined = left.join(right, join_type=kind, num_partitions=3, on=("key",)).sort("key", descending=True).to_arrow()
    wanted = [
        {
            "key": key,
            **(row("left", key) if key < 200 else nothing("left")),
            **(row("right", key) if key >= 100 else nothing("right")),
        }
        for key in (range(300) if kind == "full_outer" else range(100, 200))
    ]
    assert joined.to_pylist() == wanted[::-1]
    assert joined.schema.field("left_text").type == pyarrow.string_view()
