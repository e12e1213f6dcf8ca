"""Unions and samples of datasets, from memory and behind functions, with nulls, texts, decimals and times."""

import datetime
import decimal

import aktis.data
import numpy
import pyarrow
import pytest

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


class TestParts:
    def test_sample_is_a_part_of_the_rows_in_their_order(self, ds):
        drawn = [row["id"] for row in ds.random_sample(0.3, seed=5).take_all()]
        assert drawn == sorted(set(drawn)) and ROWS * 0.2 < len(drawn) < ROWS * 0.4
        assert ds.random_sample(0).count() == 0 and ds.random_sample(1).count() == ROWS

    def test_mistakes_are_named(self):
        ds = aktis.data.range(3)
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

    def test_dataset_beside_itself_and_after_functions(self):
        ds = aktis.data.range(5)
        assert sorted(row["id"] for row in ds.union(ds.map(lambda row: row)).take_all()) == sorted([*range(5)] * 2)
        assert ds.union(ds).limit(7).count() == 7
        assert ds.union(ds).filter(expr="id > 2").count() == 4

    def test_materialised_datasets_and_pickled_plans(self):
        import pickle

        ds = aktis.data.range(2)
        assert ds.materialize().union(ds).count() == 4
        assert ds.union(ds.materialize()).count() == 4
        assert pickle.loads(pickle.dumps(ds.union(ds))).take_all() == [{"id": n} for n in [0, 1, 0, 1]]

    def test_rows_of_several_datasets_are_written(self, tmp_path):
        ds = aktis.data.range(10)
        ds.union(ds).write_parquet(tmp_path / "out")
        assert aktis.data.read_parquet(str(tmp_path / "out")).count() == 20
