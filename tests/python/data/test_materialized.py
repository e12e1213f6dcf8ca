"""Rows that were made once: kept, cut, given to others."""

import pickle

import aktis
import aktis.data
import pyarrow


@aktis.remote(num_cpus=0)
class Reader:
    def read(self, ds):
        return [row["id"] for row in ds.take_all()]


def test_rows_that_were_made_are_read_by_tasks_and_actors_and_not_made_again(tmp_path):
    folder = str(tmp_path)

    def mark(batch):
        open(f"{folder}/{batch['id'][0]}", "x").close()  # fails if the rows are made twice
        return batch

    ds = aktis.data.range(10, override_num_blocks=2).map_batches(mark).materialize()
    reader = Reader.remote()
    assert aktis.get(reader.read.remote(ds)) == list(range(10))
    derived = ds.filter(expr="id > 6").map(lambda row: {"id": row["id"] * 2})
    assert aktis.get(reader.read.remote(derived)) == [14, 16, 18]
    first, _ = ds.split_at_indices([7])
    assert aktis.get(reader.read.remote(first)) == list(range(7))


def test_rows_stay_while_somebody_has_them():
    @aktis.remote(num_cpus=0)
    def made():
        return aktis.data.range(1000).map(lambda row: row).materialize()

    ds = aktis.get(made.remote())
    assert isinstance(ds, aktis.data.MaterializedDataset)
    assert ds.count() == 1000 and ds.sum("id") == 499500
    again = pickle.loads(pickle.dumps(ds))
    del ds
    assert again.count() == 1000 and again.take(1) == [{"id": 0}]


def test_a_materialised_dataset_knows_its_columns_and_blocks_also_without_rows():
    ds = aktis.data.range(3).filter(expr="id > 5").materialize()
    assert ds.columns() == ["id"] and ds.take_all() == [] and ds.count() == 0
    mapped = (
        aktis.data.range(4, override_num_blocks=4).map_batches(lambda batch: {"x": batch["id"] * 1.5}).materialize()
    )
    assert mapped.num_blocks() == 4
    assert mapped.schema().types == [pyarrow.float64()]
    assert "MaterializedDataset(x: double)" in repr(mapped)


def test_blocks_of_different_columns_are_read_as_one_dataset():
    ds = aktis.data.range(4, override_num_blocks=4).map(lambda row: {f"c{row['id'] % 2}": row["id"]}).materialize()
    assert sorted(ds.columns()) == ["c0", "c1"]
    left, right = ds.split(2)
    assert left.take_all() == [{"c0": 0, "c1": None}, {"c0": None, "c1": 1}]
    assert right.count() == 2


def test_rows_that_a_limit_cut_off_are_not_there():
    ds = aktis.data.range(100, override_num_blocks=3).map(lambda row: row).limit(40).materialize()
    assert [row["id"] for row in ds.take_all()] == list(range(40))
    one, other = ds.split(2, equal=True)
    assert [row["id"] for row in other.take_all()] == list(range(20, 40)) and one.count() == 20


def test_copy_is_the_same_dataset():
    ds = aktis.data.range(3).materialize()
    assert ds.copy().take_all() == ds.take_all()
    assert type(ds.copy()) is aktis.data.MaterializedDataset
    assert aktis.data.range(3).map(lambda row: row).copy().count() == 3
